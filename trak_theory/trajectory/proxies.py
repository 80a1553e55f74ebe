"""Estimates of an estimate's own error: proxies, calibrated bounds and a verdict on the run. Source: ours.

All rest on one observation: where the sweep changes much when its Hessians shrink by a tenth, it stands on a curvature
that the retrained paths do not share. The constants were calibrated on 400 runs of four families (softmax regression,
tanh networks of one and two hidden layers on digits, one on breast_cancer; SGD with momentum, Adam, AdamW; 20–160
steps, batches of 5–25, learning rates over two decades); the study `proxy` measures them on other runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from trak_theory.numerics.checks import positive_count
from trak_theory.trajectory.truth import retrain_without

if TYPE_CHECKING:
    from trak_theory.trajectory.attributions import Attribution

BEST = ("two-step", "frozen-push")
FLOOR = 0.05
NINETY_PERCENT = 2.25
TRUST, RANKS = 0.067, 0.20  # thresholds on the sensitivity G
AUDITED_TRUST, AUDITED_RANKS = 0.08, 0.36  # thresholds on ê √G

Label = Literal["trust", "ranks only", "do not trust"]


def proxy(attribution: Attribution) -> Array:
    """An estimate of |error| for every row and query, (n, q); one more sweep.

    two-step, frozen-push    √((s − s^γ)² + mean_i (s − s^γ)² + (.05 s)²), s^γ the sweep with the Hessian times γ = .9
    all others               |two-step − estimate|: what they leave out is most of their error
    """
    score = attribution.influence
    if attribution.settings.estimator not in BEST:
        return np.abs(attribution.vary(estimator="two-step").influence - score)
    square = (score - attribution.damped) ** 2
    return np.sqrt(square + square.mean(0) + (FLOOR * score) ** 2)


def calibrate(proxies: list[Array], errors: list[Array], *, coverage: float = 0.9) -> float:
    """The factor c for which |error| ≤ c · proxy in a share `coverage` of the rows of some runs with known truth."""
    if not 0 < coverage < 1:
        raise ValueError(f"coverage must lie in (0, 1), got {coverage}")
    ratios = [np.ravel(np.abs(error) / bound) for error, bound in zip(errors, proxies, strict=True)]
    return float(np.quantile(np.concatenate(ratios), coverage, method="higher"))


def error_bound(attribution: Attribution) -> Array:
    """A half-width (n, q) that holds for about 90 % of the rows of a two-step or frozen-push attribution.

    2.25 · proxy. A calibrated statement about runs like those it was calibrated on, not a certificate: on small
    transformers (studies `torch_gpt2`, `torch_llama`) it holds for about three quarters.
    """
    if attribution.settings.estimator not in BEST:
        raise ValueError(f"the bound is calibrated for {BEST}, not for {attribution.settings.estimator!r}")
    return NINETY_PERCENT * attribution.proxy


@dataclass(frozen=True)
class Verdict:
    """What an attribution of a run is good for.

    label            trust: Spearman ≥ .95 and relative error ≤ .35 expected; ranks only: Spearman ≥ .8; do not trust
    sensitivity G    ‖s − s^{γ=.9}‖/‖s‖, mean over queries
    audited_error    relative error estimated from the retrained samples, None without an audit
    """

    label: Label
    sensitivity: float
    audited_error: float | None


def verdict(attribution: Attribution, *, audit: int = 0, rng: Generator | None = None) -> Verdict:
    """Whether to trust a two-step or frozen-push attribution, its ranks, or neither.

    Without retraining (audit = 0): thresholds on G. `audit` retrains without that many samples, drawn with probability
    ∝ .7|s|/mean|s| + .3, and decides on ê √G. On the 600 runs of the study `proxy` at its full size, a fifth of them of
    a family left out of calibration, 76 % of the verdicts are right without retraining (4.5 % too optimistic) and 89 %
    with 16 retrainings (3 %).
    """
    if attribution.settings.estimator not in BEST:
        raise ValueError(f"the verdict is calibrated for {BEST}, not for {attribution.settings.estimator!r}")
    change = np.linalg.norm(attribution.influence - attribution.damped, axis=0)
    sensitivity = float(np.mean(change / np.linalg.norm(attribution.influence, axis=0)))
    if not audit:
        return Verdict(_label(sensitivity, TRUST, RANKS), sensitivity, None)
    if rng is None:
        raise ValueError("an audit draws samples at random: pass rng")
    error = audited_error(attribution, audit, rng)
    return Verdict(_label(error * np.sqrt(sensitivity), AUDITED_TRUST, AUDITED_RANKS), sensitivity, error)


def audited_error(attribution: Attribution, audit: int, rng: Generator) -> float:
    """‖s − I‖/‖I‖ (mean over queries) estimated from `audit` retrainings, by importance sampling with replacement."""
    if attribution.steps is not None:
        raise ValueError('an audit retrains without a sample from the whole run: attribute with occurrences="all"')
    score = attribution.influence
    size = np.mean(np.abs(score) / np.abs(score).mean(0), axis=1)
    probability = (0.7 * size + 0.3) / np.sum(0.7 * size + 0.3)
    drawn, count = np.unique(rng.choice(len(score), positive_count("audit", audit), p=probability), return_counts=True)
    removal = attribution.convention.removal
    truth = retrain_without(attribution.run, drawn[:, None], removal=removal).influence(attribution.query)
    weight = (count / probability[drawn])[:, None]
    square = (weight * (truth - score[drawn]) ** 2).sum(0) / (weight * truth**2).sum(0)
    return float(np.mean(np.sqrt(square)))


def _label(score: float, trust: float, ranks: float) -> Label:
    return "trust" if score < trust else "ranks only" if score < ranks else "do not trust"
