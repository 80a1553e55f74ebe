"""The linear datamodelling score with its error, its ceilings, and what a better measurement would cost."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike

from trak_theory.numerics.checks import real_array
from trak_theory.numerics.estimate import Estimate
from trak_theory.retraining.crossed import CrossedMean, Sampled, crossed_mean, pseudo_values
from trak_theory.retraining.noise import additive_ceiling, noise_ceiling
from trak_theory.retraining.per_query import (
    PerQuery,
    constant_outputs,
    constant_queries,
    mean_or_nan,
    spearman_per_query,
)
from trak_theory.retraining.subsets import Subsets, membership

FEWEST, TESTED = 5, 20  # subsets: fewer have no jackknife worth the name; fewer were not simulated
SPARE = 20  # subsets beyond the rank of the membership before its regression says anything


@dataclass(frozen=True, eq=False)
class OverQueries:
    """A mean over queries with its error over subsets and queries.

    estimate    the mean, its small-sample bias and its variances
    per_query   (q,), NaN where undefined
    undefined   query → the reason; such queries are in no mean
    """

    estimate: CrossedMean
    per_query: Array = field(repr=False)
    undefined: dict[int, str]

    @property
    def mean(self) -> Estimate:
        """With its standard error over subsets and queries."""
        return Estimate(self.estimate.value, self.estimate.se)

    @property
    def se(self) -> float:
        """Standard error over subsets and queries."""
        return self.estimate.se

    def interval(self, level: float = 0.95, *, over: Sampled = "subsets and queries") -> tuple[float, float]:
        """Confidence limits for the value at infinitely many subsets, over all queries or these; see `CrossedMean`."""
        return self.estimate.interval(level, over=over)


@dataclass(frozen=True, eq=False)
class Lds(OverQueries):
    """A linear datamodelling score, and what it can be read against.

    mean                mean over queries of the Spearman correlation over subsets, as the field reports it
    se                  its standard error over subsets and queries; `estimate.subset_se` for these queries
    per_query (q,)      NaN for a query that has none, named in `undefined`
    noise_ceiling       the most that any function of the subset reaches against one noisy training: from replicates
    corrected           mean / noise_ceiling, the score against outputs without training noise: from replicates
    additive_ceiling    the most that any sum over points reaches, training noise included: from B > n + 20
    warnings            in words
    """

    noise_ceiling: CrossedMean | None
    corrected: CrossedMean | None
    additive_ceiling: CrossedMean | None
    warnings: tuple[str, ...]

    def subsets_for(self, se: float) -> int:
        """The number of retrained subsets with which the standard error would be `se`, for as many queries."""
        return self.estimate.subsets_for(se)


def lds(
    scores: ArrayLike,
    subsets: Subsets,
    outputs: ArrayLike,
    *,
    replicates: ArrayLike | None = None,
) -> Lds:
    """Linear datamodelling score: Spearman over subsets S of Σ_{i∈S} T_ij with f_j(S), the mean over queries j.

    scores T (n, q)         presence sign: positive raises the output
    subsets (B, m)          index arrays, drawn independently; a list of unequal lengths will do
    outputs f (B, q)        of the model trained on each subset
    replicates (R, B, q)    of R more trainings on each subset, in another batch order or from another start

    All queries share the subsets, so the error is of both (delete-one jackknife over subsets, crossed with queries). A
    sample Spearman correlation is biased towards 0, by .03 at .9 and 20 subsets: `mean` keeps it, as everyone's does,
    and `interval` is centred without it. O(q B²).

    >>> rng = np.random.default_rng(0)
    >>> scores = rng.standard_normal((30, 8))
    >>> subsets = [rng.choice(30, 15, replace=False) for _ in range(40)]
    >>> outputs = np.stack([scores[subset].sum(0) for subset in subsets]) + 2 * rng.standard_normal((40, 8))
    >>> found = lds(scores, subsets, outputs)
    >>> print(f"{found.mean:.2f} ± {found.se:.2f}, {found.subsets_for(found.se / 2)} subsets for half the error")
    0.79 ± 0.02, 160 subsets for half the error
    """
    scores, members, outputs = _checked(scores, subsets, outputs)
    measured = spearman_per_query(members @ scores, outputs, constant_queries(members, scores, outputs))
    estimate = crossed_mean(measured.pseudo, measured.mean)
    ceiling = corrected = None
    if replicates is not None:
        ceiling, corrected = _against_noise(measured, estimate, outputs, _replicates(replicates, outputs))
    additive = _additive(measured, outputs, members) if len(members) >= scores.shape[0] + SPARE else None
    warnings = tuple(_warnings(measured, len(members)))
    return Lds(estimate, measured.values, measured.undefined, ceiling, corrected, additive, warnings)


def fidelity(predicted: ArrayLike, outputs: ArrayLike) -> OverQueries:
    """Spearman over subsets of predicted with measured outputs, both (B, q), the mean over queries.

    The LDS of a prediction that is no sum over points: a twin's refits, another network's outputs.

    >>> outputs = np.arange(12.0).reshape(6, 2)
    >>> float(fidelity(2 * outputs, outputs).mean)
    1.0
    """
    first, second = real_array("predicted", predicted, 2), real_array("outputs", outputs, 2)
    if first.shape != second.shape or len(first) < FEWEST:
        raise ValueError(f"predicted have shape {first.shape}, outputs {second.shape}; both need {FEWEST} rows or more")
    return over_queries(spearman_per_query(first, second, constant_outputs(first, second)))


def over_queries(measured: PerQuery) -> OverQueries:
    return OverQueries(crossed_mean(measured.pseudo, measured.mean), measured.values, measured.undefined)


def compare(first: ArrayLike, second: ArrayLike, subsets: Subsets, outputs: ArrayLike) -> OverQueries:
    """LDS of the first scores (n, q) minus that of the second, on the same subsets and queries, with its paired error.

    A query without an LDS under either is left out of both.
    """
    one, members, outputs = _checked(first, subsets, outputs)
    two, _, _ = _checked(second, subsets, outputs)
    if one.shape != two.shape:
        raise ValueError(f"scores of shapes {one.shape} and {two.shape} cannot be compared")
    reasons = {**constant_queries(members, one, outputs), **constant_queries(members, two, outputs)}
    a, b = (spearman_per_query(members @ scores, outputs, reasons) for scores in (one, two))
    if a.undefined != b.undefined:
        reasons = {**a.undefined, **b.undefined}
        a, b = (spearman_per_query(members @ scores, outputs, reasons) for scores in (one, two))
    estimate = crossed_mean(a.pseudo - b.pseudo, a.mean - b.mean, correlation=False)
    return OverQueries(estimate, a.values - b.values, a.undefined)


def _against_noise(
    measured: PerQuery, estimate: CrossedMean, outputs: Array, replicates: Array
) -> tuple[CrossedMean, CrossedMean]:
    """The noise ceiling, and the score as a share of it: a ratio of means, by linearisation."""
    whole, without = noise_ceiling(outputs[:, measured.kept], replicates[:, :, measured.kept])
    pseudo = pseudo_values(whole, without)
    ceiling = crossed_mean(pseudo, mean_or_nan(whole))
    ratio = estimate.value / ceiling.value if ceiling.value > 0 else np.nan
    corrected = ratio + (measured.pseudo - ratio * pseudo) / ceiling.value
    return ceiling, crossed_mean(corrected, ratio, correlation=False)


def _additive(measured: PerQuery, outputs: Array, members: Array) -> CrossedMean:
    whole, without = additive_ceiling(outputs[:, measured.kept], members)
    return crossed_mean(pseudo_values(whole, without), mean_or_nan(whole))


def _checked(scores: ArrayLike, subsets: Subsets, outputs: ArrayLike) -> tuple[Array, Array, Array]:
    scores = real_array("scores", scores, 2)
    outputs = real_array("outputs", outputs, 2)
    members = membership(subsets, len(scores))
    if outputs.shape != (len(members), scores.shape[1]):
        raise ValueError(
            f"outputs have shape {outputs.shape}; {len(members)} subsets and {scores.shape[1]} columns of scores need "
            f"({len(members)}, {scores.shape[1]})"
        )
    if len(members) < FEWEST:
        raise ValueError(
            f"{len(members)} subsets cannot give a rank correlation an error; retrain on at least {FEWEST}"
        )
    return scores, members, outputs


def _replicates(replicates: ArrayLike, outputs: Array) -> Array:
    replicates = real_array("replicates", replicates, 3)
    if replicates.shape[1:] != outputs.shape:
        raise ValueError(
            f"replicates have shape {replicates.shape}, expected (R, {outputs.shape[0]}, {outputs.shape[1]})"
        )
    if len(replicates) == 1 and np.array_equal(replicates[0], outputs):
        raise ValueError("the only replicate equals the outputs: train again with another batch order or start")
    return replicates


def _warnings(measured: PerQuery, count: int) -> list[str]:
    found = []
    if count < TESTED:
        found.append(f"{count} subsets: intervals were tested from {TESTED} on")
    if measured.undefined:
        found.append(f"{len(measured.undefined)} of {measured.values.size} queries have no LDS; see `undefined`")
    return found
