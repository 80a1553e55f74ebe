"""Verdict on an attribution of a run, and its error bound, free or with a few retrainings. Source: ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from trak_theory.numerics.checks import positive_count
from trak_theory.trajectory.attributions import Attribution
from trak_theory.trajectory.proxies import calibrate, sensitivity
from trak_theory.trajectory.reliability.audits import audit_sample, plausible_quality
from trak_theory.trajectory.reliability.labels import THRESHOLDS, Label, audited_label, free_label
from trak_theory.trajectory.truth import retrain_without

BEST = ("two-step", "frozen-push")


@dataclass(frozen=True)
class Verdict:
    """Verdict on an attribution of a run, with the numbers it rests on.

    label            trust: Spearman ≥ .95 and relative error ≤ .35 expected; ranks only: Spearman ≥ .8; do not trust;
                     retrain a few to tell: what is known for free does not decide, pass `audit`
    defect κ         how far the paths predicted without the largest samples are from being runs
    query_defect κ_q how far the query is from linear along these paths
    sensitivity G    ‖s − s^{γ=.9}‖/‖s‖, mean over queries
    audited_error    median of the relative errors that the retrained samples leave plausible, None without an audit
    audited_rank     median of the Spearman correlations that they leave plausible, None without an audit
    """

    label: Label
    defect: float
    query_defect: float
    sensitivity: float
    audited_error: float | None = None
    audited_rank: float | None = None


def verdict(
    attribution: Attribution, *, audit: int = 0, rng: Generator | None = None, cache: Path | str | None = None
) -> Verdict:
    """Verdict on a two-step or frozen-push attribution: trust it, its ranks, or neither.

    Without retraining (audit = 0) thresholds on √(κ² + κ_q²) decide, and it may answer "retrain a few to tell". `audit`
    retrains without that many samples (see `audit_sample`) and always decides, by the odds that the truth which they
    leave plausible deserves a label (see `plausible_quality`); `cache` as in `retrain_without`.

    Cost without retraining: a sweep for G, and for κ and κ_q five paths through the run, a gradient and a
    Hessian-vector product of each at every step, and five evaluations of the query. That is more than retraining
    without these five would cost; an audit costs a gradient a step for each of its samples.

    Shares of right, abstaining and too optimistic verdicts on families left out of calibration: `python -m simulations
    table proxy`.

    >>> from trak_theory.trajectory import MLP, SGD, attribute, train
    >>> net = MLP(np.eye(6), [0, 1, 0, 1, 0, 1], hidden=(3,))
    >>> run = train(net, net.start(np.random.default_rng(0)), [[0, 1, 2], [3, 4, 5]] * 4, SGD(1e-3))
    >>> verdict(attribute(run, np.ones(net.p))).label
    'trust'
    """
    _check_estimator("verdict", attribution)
    seen, change = attribution.tracked, sensitivity(attribution.influence, attribution.damped)
    if not audit:
        return Verdict(free_label(seen.index, change), seen.defect, seen.query_defect, change)
    present, rng = _present(attribution), _generator(rng)
    estimate, proxy = attribution.influence[present], attribution.proxy[present]
    rows, weights = audit_sample(estimate, audit, rng)
    truth = _retrained(attribution, present[rows], cache)
    plausible = plausible_quality(estimate, proxy, rows, weights, truth, rng)
    error, rank = (float(np.median(part)) for part in (plausible.relative_error, plausible.spearman))
    label = audited_label(plausible, seen.index)
    return Verdict(label, seen.defect, seen.query_defect, change, error, rank)


def error_bound(
    attribution: Attribution, *, audit: int = 0, rng: Generator | None = None, cache: Path | str | None = None
) -> Array:
    """A half-width (n, q) that is meant to hold for 90 % of the rows of a two-step or frozen-push attribution, or more.

    Without retraining 2 · proxy: wide enough for nineteen of twenty runs of the families that it was chosen on, and so
    wider than need be for most (see the study `proxy`). `audit` ≥ 9 retrains without that many random samples and takes
    the factor from them, one for each query: covers 90 % on average over the draw, whatever the network (see
    `calibrate`).
    """
    _check_estimator("error bound", attribution)
    proxy = attribution.proxy
    if not audit:
        return THRESHOLDS.bound * proxy
    present = _present(attribution)
    count = min(positive_count("audit", audit), len(present))
    samples = _generator(rng).choice(present, count, replace=False)
    errors = _retrained(attribution, samples, cache) - attribution.influence[samples]
    pairs = zip(proxy[samples].T, errors.T, strict=True)
    return proxy * np.array([calibrate([own], [error]) for own, error in pairs])


def _retrained(attribution: Attribution, samples: Array, cache: Path | str | None) -> Array:
    """The truth (m, q) for these samples."""
    if attribution.steps is not None:
        raise ValueError('an audit retrains without a sample from the whole run: attribute with occurrences="all"')
    removal = attribution.convention.removal
    truth = retrain_without(attribution.run, samples[:, None], removal=removal, cache=cache)
    return truth.influence(attribution.query)


def _present(attribution: Attribution) -> Array:
    """The samples that the run saw."""
    return np.unique(np.concatenate(attribution.run.batches))


def _generator(rng: Generator | None) -> Generator:
    if rng is None:
        raise ValueError("an audit draws samples at random: pass rng")
    return rng


def _check_estimator(what: str, attribution: Attribution) -> None:
    if attribution.settings.estimator not in BEST:
        raise ValueError(f"the {what} is calibrated for {BEST}, not for {attribution.settings.estimator!r}")
