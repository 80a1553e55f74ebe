"""From the shards of a pass to restored influence: sums over samples, ridges, scores and error bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy import ndarray as Array

from trak_theory.numerics.estimate import Estimate, mean
from trak_theory.torch_bridge.restoring.points import Points

NAMED = 5  # samples that a warning lists
CERTAIN = 1e-30  # (1 − π)/π below which a point has no leverage in single precision


@dataclass(frozen=True, eq=False)
class Restored:
    """Restored influence from sketches, and what the approximations cost.

    scores (n, q)         −g_iᵀ(Σ_i J_iᵀA_iJ_i + λI)⁻¹φ*_j, presence sign, the mean over the sketches; NaN for a sample
                          without a finite gradient
    sd (n, q)             their standard deviation over draws of the sketches alone
    ridge λ               of the rule, the mean over the sketches that it was read from
    projected_ridge (J,)  μ, that stands for λ in each sketch
    effective_dimension   df(λ) of the curvature that the directions hold, the mean over the sketches
    neglected_dimension   an upper bound on what the other curvature would add to it, from a few samples, ± their
                          sampling; 0 where the directions are drawn to be unbiased
    kept                  share of the trace of the output curvatures A_i that the directions hold; of drawn ones 1 in
                          the mean
    warnings              in words
    """

    scores: Array = field(repr=False)
    sd: Array = field(repr=False)
    ridge: float
    projected_ridge: Array
    effective_dimension: float
    neglected_dimension: Estimate
    kept: float
    warnings: tuple[str, ...]


class Influence(Protocol):
    """Scores from one sketch, or from none."""

    @property
    def projected_ridge(self) -> float: ...
    @property
    def effective_dimension(self) -> float: ...
    @property
    def neglected(self) -> Array: ...
    @property
    def warnings(self) -> tuple[str, ...]: ...
    def of(self, gradients: Array) -> tuple[Array, Array]: ...


class Curvature(Protocol):
    """What the samples add up to before any score: in k dimensions, or row by row."""

    def add(self, rows: Array, rest: Array, weights: Array) -> None: ...
    def rule_ridge(self, training: float, *, fraction: float | None) -> float: ...
    def influence(self, queries: Array, ridge: float) -> Influence: ...


def assembled(
    passes: Callable[[], Iterator[Points]],
    curvatures: Sequence[Curvature],
    queries: Array,
    training: float,
    fraction: float | None,
    *,
    premise: Callable[[float], str],
) -> Restored:
    """Two passes over the shards: sums, then scores. queries (J, q, k); premise: spread of the median row ↦ warning."""
    lost, trace, kept, spread = _summed(passes(), curvatures)
    ridges = [one.rule_ridge(training, fraction=fraction) for one in curvatures]
    unasked = ~np.isfinite(queries).all((0, 2))
    whole = np.where(unasked[:, None], 0.0, queries)
    members = [one.influence(*own) for one, *own in zip(curvatures, whole, ridges, strict=True)]
    scores, variance = _scores(passes(), members)
    for part in (scores, variance):
        part[lost], part[:, unasked] = np.nan, np.nan
    return Restored(
        scores=scores,
        sd=np.sqrt(variance),
        ridge=float(np.mean(ridges)),
        projected_ridge=np.array([one.projected_ridge for one in members]),
        effective_dimension=float(np.mean([one.effective_dimension for one in members])),
        neglected_dimension=_times(mean(np.mean([one.neglected for one in members], axis=0)), len(lost)),
        kept=kept / trace if trace > 0 else 1.0,
        warnings=(
            *_lost_words("samples", lost),
            *_lost_words("queries", unasked),
            *_flat_words(trace),
            *members[0].warnings,
            *filter(None, [premise(spread)]),
        ),
    )


def _summed(shards: Iterator[Points], curvatures: Sequence[Curvature]) -> tuple[Array, float, float, float]:
    """Which samples are lost (n,), traces of all curvature and of what is kept, the spread of a median row."""
    broken: list[Array] = []
    spreads: list[Array] = []
    trace, kept = 0.0, 0.0
    for part in map(_finite, shards):
        points = part.points
        broken.append(part.broken)
        spreads.append(points.spread[~part.broken])
        trace, kept = trace + float(points.trace.sum()), kept + float(points.kept.sum())
        for member, own in enumerate(curvatures):
            own.add(points.rows[member], points.rest[member], part.weights)
    lost = np.concatenate(broken)
    if lost.all():
        raise ValueError(f"no sample has a finite gradient: all {len(lost)} are NaN or infinite")
    return lost, trace, kept, float(np.median(np.concatenate(spreads)))


@dataclass(frozen=True)
class _Finite:
    points: Points
    weights: Array
    broken: Array


def _finite(points: Points) -> _Finite:
    """Samples that are not finite contribute nothing; weights d/r² of gradients in the leverage."""
    whole = np.isfinite(points.rows).all((0, 2, 3)) & np.isfinite(points.trace)
    rows = np.where(whole[None, :, None, None], points.rows, 0.0)
    kept, trace = (np.where(whole, values, 0.0) for values in (points.kept, points.trace))
    decrement = np.where(whole, points.decrement, np.inf)
    weights = np.divide(1.0, decrement, out=np.zeros(len(whole)), where=decrement > CERTAIN)
    probed = points.rest.shape[1]
    rest = np.where(whole[None, :probed, None], points.rest, 0.0)
    return _Finite(points._replace(rows=rows, rest=rest, trace=trace, kept=kept), weights, ~whole)


def _scores(shards: Iterator[Points], members: Sequence[Influence]) -> tuple[Array, Array]:
    """Mean over the sketches, and its variance, (n, q)."""
    count = len(members)
    blocks = [
        [one.of(points.rows[member, :, 0].astype(float)) for member, one in enumerate(members)] for points in shards
    ]
    scores = [np.mean([scores for scores, _ in block], axis=0) for block in blocks]
    variance = [np.sum([variance for _, variance in block], axis=0) / count**2 for block in blocks]
    return np.concatenate(scores), np.concatenate(variance)


def _times(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(factor * estimate.value, factor * estimate.se)


def _lost_words(what: str, lost: Array) -> Iterator[str]:
    if lost.any():
        places = np.flatnonzero(lost)
        named = ", ".join(map(str, places[:NAMED])) + (" …" if len(places) > NAMED else "")
        yield f"{len(places)} of {len(lost)} {what} have no finite gradient and score NaN: {named}"


def _flat_words(trace: float) -> Iterator[str]:
    if trace == 0:
        yield "no sample's loss curves in its outputs: scores are those of the ridge alone"
