"""Verdict on an attribution of a run, and its error bound, free or with a few retrainings. Source: ours.

All thresholds stand in THRESHOLDS. They were chosen on 186 runs of eight families (of `CALIBRATED` in the study
`proxy`, which measures them on others): softmax regression, tanh, GELU and ReLU networks, a CNN, matrix
factorisation; SGD with momentum and AdamW, 20 to 160 steps, batches of 5 to 20.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from trak_theory.numerics.checks import positive_count
from trak_theory.trajectory.attributions import Attribution
from trak_theory.trajectory.proxies import calibrate, sensitivity
from trak_theory.trajectory.truth import retrain_without

BEST = ("two-step", "frozen-push")
Label = Literal["trust", "ranks only", "do not trust", "retrain a few to tell"]


@dataclass(frozen=True)
class Thresholds:
    """Thresholds between the labels.

    spearman, error, ranks    deserves trust: Spearman ≥ .95 and relative error ≤ .35; ranks only: Spearman ≥ .8
    defect                    κ up to which a run is called, in this order: trust, undecided, ranks only, undecided;
                              do not trust above
    sensitivity               G above which no run is called trust or ranks only without retraining
    audited                   ê √κ (1.02 − ρ̂)^.4 up to which an audited run is called trust, ranks only
    bound                     half-width of the free 90 % bound, in proxies
    """

    spearman: float = 0.95
    error: float = 0.35
    ranks: float = 0.8
    defect: tuple[float, float, float, float] = (0.16, 0.25, 0.45, 0.7)
    sensitivity: float = 0.25
    audited: tuple[float, float] = (0.035, 0.26)
    bound: float = 1.15


THRESHOLDS = Thresholds()
SPREAD = 0.5  # the share of the draw of an audit that goes by size; the rest is uniform


@dataclass(frozen=True)
class Verdict:
    """Verdict on an attribution of a run, with the numbers it rests on.

    label            trust: Spearman ≥ .95 and relative error ≤ .35 expected; ranks only: Spearman ≥ .8; do not trust;
                     retrain a few to tell: what is known for free does not decide, pass `audit`
    defect κ         how far the paths predicted without the largest samples are from being runs
    sensitivity G    ‖s − s^{γ=.9}‖/‖s‖, mean over queries
    audited_error    ê, relative error estimated from the retrained samples, None without an audit
    audited_rank     ρ̂, Spearman estimated from them, None without an audit
    """

    label: Label
    defect: float
    sensitivity: float
    audited_error: float | None = None
    audited_rank: float | None = None


def deserved(spearman: float, relative_error: float) -> Label:
    """The label that an attribution of known quality deserves."""
    if spearman >= THRESHOLDS.spearman and relative_error <= THRESHOLDS.error:
        return "trust"
    return "ranks only" if spearman >= THRESHOLDS.ranks else "do not trust"


def verdict(
    attribution: Attribution, *, audit: int = 0, rng: Generator | None = None, cache: Path | str | None = None
) -> Verdict:
    """Verdict on a two-step or frozen-push attribution: trust it, its ranks, or neither.

    Without retraining (audit = 0) thresholds on κ decide, and it may answer "retrain a few to tell". `audit` retrains
    without that many samples, half of the draw by size and half uniform, and always decides; `cache` as in
    `retrain_without`. Shares of right, abstaining and too optimistic verdicts on families left out of calibration, with
    standard errors: `python -m paper_figures proxy`.

    >>> from trak_theory.trajectory import MLP, SGD, attribute, train
    >>> net = MLP(np.eye(6), [0, 1, 0, 1, 0, 1], hidden=(3,))
    >>> run = train(net, net.start(np.random.default_rng(0)), [[0, 1, 2], [3, 4, 5]] * 4, SGD(1e-3))
    >>> verdict(attribute(run, np.ones(net.p))).label
    'trust'
    """
    _check_estimator("verdict", attribution)
    known = Verdict("do not trust", attribution.defect, sensitivity(attribution.influence, attribution.damped))
    if not audit:
        return Verdict(_free_label(known), known.defect, known.sensitivity)
    samples, weights = audit_sample(attribution, audit, rng)
    error, rank = _audited(attribution, samples, weights, _retrained(attribution, samples, cache))
    score = error * np.sqrt(known.defect) * (1.02 - rank) ** 0.4
    return Verdict(_audited_label(float(score)), known.defect, known.sensitivity, error, rank)


def error_bound(
    attribution: Attribution, *, audit: int = 0, rng: Generator | None = None, cache: Path | str | None = None
) -> Array:
    """A half-width (n, q) that is meant to hold for 90 % of the rows of a two-step or frozen-push attribution.

    Without retraining 1.15 · proxy: calibrated on runs of some families, and too narrow where kinks decide (see the
    study `proxy`). `audit` ≥ 9 retrains without that many random samples and takes the factor from them, one for each
    query: covers 90 % on average over the draw, whatever the network (see `calibrate`).
    """
    _check_estimator("error bound", attribution)
    proxy = attribution.proxy
    if not audit:
        return THRESHOLDS.bound * proxy
    present = np.unique(np.concatenate(attribution.run.batches))
    count = min(positive_count("audit", audit), len(present))
    samples = _generator(rng).choice(present, count, replace=False)
    errors = _retrained(attribution, samples, cache) - attribution.influence[samples]
    pairs = zip(proxy[samples].T, errors.T, strict=True)
    return proxy * np.array([calibrate([own], [error]) for own, error in pairs])


def audit_sample(attribution: Attribution, count: int, rng: Generator | None) -> tuple[Array, Array]:
    """Distinct samples (m,) drawn with probability π ∝ (|s|/mean |s| + 1)/2 at most 1, and 1/π (m,).

    Of the samples that the run saw, by systematic sampling in random order.
    """
    present = np.unique(np.concatenate(attribution.run.batches))
    score = np.abs(attribution.influence[present])
    mean = score.mean(0)
    size = SPREAD * np.mean(score / np.where(mean > 0, mean, 1.0), axis=1) + 1 - SPREAD
    count = min(positive_count("audit", count), len(present))
    rng, probability = _generator(rng), _inclusion(size, count)
    order = rng.permutation(len(present))
    steps = np.cumsum(probability[order])
    chosen = order[np.searchsorted(steps, (rng.random() + np.arange(count)) * steps[-1] / count)]
    return present[chosen], 1 / probability[chosen]


def _free_label(known: Verdict) -> Label:
    trust, undecided, ranks, dubious = THRESHOLDS.defect
    steady = known.sensitivity <= THRESHOLDS.sensitivity
    if known.defect <= trust and steady:
        return "trust"
    if undecided < known.defect <= ranks and steady:
        return "ranks only"
    return "retrain a few to tell" if known.defect <= dubious else "do not trust"


def _audited_label(score: float) -> Label:
    trust, ranks = THRESHOLDS.audited
    return "trust" if score <= trust else "ranks only" if score <= ranks else "do not trust"


def _audited(attribution: Attribution, samples: Array, weights: Array, truth: Array) -> tuple[float, float]:
    """ê = ‖s − I‖/‖I‖ and the Spearman correlation of s and I, estimated from weighted samples; means over queries."""
    score = attribution.influence[samples]
    whole = weights @ truth**2
    square = (weights @ (truth - score) ** 2) / np.where(whole > 0, whole, np.finfo(float).tiny)
    ranks = [_weighted_spearman(s, t, weights) for s, t in zip(score.T, truth.T, strict=True)]
    return float(np.mean(np.sqrt(square))), float(np.mean(ranks))


def _weighted_spearman(a: Array, b: Array, weights: Array) -> float:
    """Pearson correlation of the ranks that a and b would have among all rows that the weights stand for."""
    first, second = (_centred(_weighted_ranks(x, weights), weights) for x in (a, b))
    size = np.sqrt((weights @ first**2) * (weights @ second**2))
    return float(weights @ (first * second) / size) if size > 0 else 0.0


def _weighted_ranks(values: Array, weights: Array) -> Array:
    order = np.argsort(values, kind="stable")
    ranks = np.empty(len(values))
    ranks[order] = np.cumsum(weights[order]) - weights[order] / 2
    return ranks


def _centred(values: Array, weights: Array) -> Array:
    return values - np.average(values, weights=weights)


def _inclusion(size: Array, count: int) -> Array:
    """Probabilities π ∝ size, at most 1, of sum `count`."""
    probability = np.zeros(len(size))
    certain = np.zeros(len(size), bool)
    while True:
        left = count - certain.sum()
        probability = np.where(certain, 1.0, left * size / max(size[~certain].sum(), np.finfo(float).tiny))
        if not np.any(probability > 1):
            return probability
        certain |= probability >= 1


def _retrained(attribution: Attribution, samples: Array, cache: Path | str | None) -> Array:
    """The truth (m, q) for these samples."""
    if attribution.steps is not None:
        raise ValueError('an audit retrains without a sample from the whole run: attribute with occurrences="all"')
    removal = attribution.convention.removal
    truth = retrain_without(attribution.run, samples[:, None], removal=removal, cache=cache)
    return truth.influence(attribution.query)


def _generator(rng: Generator | None) -> Generator:
    if rng is None:
        raise ValueError("an audit draws samples at random: pass rng")
    return rng


def _check_estimator(what: str, attribution: Attribution) -> None:
    if attribution.settings.estimator not in BEST:
        raise ValueError(f"the {what} is calibrated for {BEST}, not for {attribution.settings.estimator!r}")
