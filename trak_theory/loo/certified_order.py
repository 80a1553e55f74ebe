"""The order of training points that certified intervals prove."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike

from trak_theory.loo.intervals import Interval
from trak_theory.numerics.estimate import Estimate, mean


@dataclass(frozen=True, eq=False)
class CertifiedOrder:
    """Pairs of training points whose order intervals prove, each (q,), with means over queries (± s.e.).

    proved    share of pairs of points whose intervals do not overlap, so that their true order is known
    kendall   lower bound on Kendall's τ_a (and τ_b, where it is positive) of the estimate with the truth
    """

    proved_by_query: Array
    kendall_by_query: Array

    @property
    def proved(self) -> Estimate:
        return mean(self.proved_by_query)

    @property
    def kendall(self) -> Estimate:
        return mean(self.kendall_by_query)


def certified_order(interval: Interval, estimate: ArrayLike) -> CertifiedOrder:
    """Share of pairs of training points that `interval` orders, and how far `estimate` (n, q) must agree with it.

        Kendall(estimate, truth) ≥ (proved concordant − proved discordant − unproved)/(n(n − 1)/2)

    A proved pair that the estimate ties counts for neither; points whose estimate is NaN prove nothing. O(n log² n)
    for each query. Proof: the truth lies in the intervals, and an unproved pair costs at most one. Source: ours.

    >>> from trak_theory import GLM, influence, newton_interval
    >>> fit = GLM([[1.0], [1.0], [-1.0]], [1.0, 0.0, 0.0], loss="logistic", ridge=1.0).fit()
    >>> interval = newton_interval(fit, [[1.0]], chord_steps=2)
    >>> order = certified_order(interval, influence(fit.linearize([[1.0]])))
    >>> float(order.proved) > 0.6
    True
    """
    low, high, estimate = _ends(interval, estimate)
    up, down = _in_order(estimate, low, high), _in_order(-estimate, low, high)
    proved = np.array([np.searchsorted(np.sort(ends), starts).sum() for ends, starts in zip(high, low, strict=True)])
    n = estimate.shape[1]
    pairs = n * (n - 1) / 2
    return CertifiedOrder(proved / pairs, (up - down - (pairs - proved)) / pairs)


def proved_pairs_in_order(interval: Interval, estimate: ArrayLike) -> Array:
    """Share (q,) of all pairs of points whose order `interval` proves and `estimate` (n, q) shares."""
    low, high, estimate = _ends(interval, estimate)
    n = estimate.shape[1]
    return _in_order(estimate, low, high) / (n * (n - 1) / 2)


def _in_order(estimate: Array, low: Array, high: Array) -> Array:
    """Pairs (q,) that both intervals and estimate put in one order; arrays (q, n)."""
    return np.array([_ordered_pairs(*columns) for columns in zip(estimate, low, high, strict=True)])


def _ends(interval: Interval, estimate: ArrayLike) -> tuple[Array, Array, Array]:
    """Lower and upper ends and the estimate, (q, n) each; a NaN estimate or center proves nothing."""
    estimate = np.asarray(estimate, float)
    estimate = estimate[:, None] if estimate.ndim == 1 else estimate
    if estimate.shape != interval.center.shape:
        raise ValueError(f"the interval has shape {interval.center.shape}, the estimate {estimate.shape}")
    if len(estimate) < 2:
        raise ValueError("one training point has no order; at least 2 are needed")
    known = np.isfinite(interval.radius) & np.isfinite(interval.center) & ~np.isnan(estimate)
    center, radius = np.where(known, interval.center, 0.0), np.where(known, interval.radius, np.inf)
    return (center - radius).T, (center + radius).T, estimate.T


def _ordered_pairs(estimate: Array, low: Array, high: Array) -> int:
    """The number of pairs (i, k) with estimate_i < estimate_k and high_i < low_k, by merging sorted halves."""
    order = np.lexsort((-low, estimate))  # within a tie, falling `low`: no pair of the tie can count
    n = order.size
    ranks = np.unique(np.r_[low[order], high[order]], return_inverse=True)[1]
    starts, ends = ranks[:n], ranks[n:]
    place, levels, total = np.arange(n), 2 * n + 1, 0
    width = 1
    while width < n:
        block, right = place // (2 * width), place // width % 2 == 1
        left_ends = np.sort(block[~right] * levels + ends[~right])
        below = np.searchsorted(left_ends, block[right] * levels + starts[right])
        total += int((below - np.searchsorted(left_ends, block[right] * levels)).sum())
        width *= 2
    return total
