"""The mean over queries of a statistic over subsets, with the error of drawing both."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np
from numpy import ndarray as Array

Sampled = Literal["subsets and queries", "subsets"]
FISHER = 3  # Fisher's loss of 3 in Var z ≈ 1/(B − 3)


@dataclass(frozen=True)
class CrossedMean:
    """θ̂, the mean over q queries of a statistic over B subsets that all queries share.

    value            θ̂ as computed
    bias             its small-sample bias, by the jackknife over subsets
    subset_variance  Var θ̂ from drawing B subsets, the queries fixed
    query_variance   Var θ̂ from drawing q queries; 0 for one query, which is then its own population
    interaction      what both variances hold in common, the noise of single queries; once in `subset_variance`
    correlation      the statistic is a correlation: intervals are symmetric in artanh θ and stay within (−1, 1)
    """

    value: float
    bias: float
    subset_variance: float
    query_variance: float
    interaction: float
    subsets: int
    queries: int
    correlation: bool = True

    @property
    def se(self) -> float:
        """Standard error over subsets and queries."""
        return float(np.sqrt(self.subset_variance + self.query_variance))

    @property
    def subset_se(self) -> float:
        """Standard error over subsets, for these very queries."""
        return float(np.sqrt(self.subset_variance))

    def interval(self, level: float = 0.95, *, over: Sampled = "subsets and queries") -> tuple[float, float]:
        """Confidence limits for the mean over all subsets, and over all queries or these (`over`).

        Half width √(t²_{B−1} V_subsets B/(B − 3) + t²_{q−1} V_queries) around the value less its bias. For a
        correlation both are carried to artanh θ. Conservative: V_queries holds the interaction once more.
        """
        from scipy.stats import t  # slow to import

        if not 0 < level < 1:
            raise ValueError(f"level must lie in (0, 1), got {level}")
        tail = (1 + level) / 2
        square = t.ppf(tail, self.subsets - 1) ** 2 * self.subset_variance * self.subsets / (self.subsets - FISHER)
        if over == "subsets and queries" and self.queries > 1:
            square += t.ppf(tail, self.queries - 1) ** 2 * (self.query_variance + self.interaction)
        return self._limits(float(np.sqrt(square)))

    def _limits(self, half: float) -> tuple[float, float]:
        if not self.correlation:
            centre = self.value - self.bias
            return centre - half, centre + half
        inside = float(np.clip(self.value, -1 + 1e-12, 1 - 1e-12))
        stretch = 1 / (1 - inside**2)
        centre, half = np.arctanh(inside) - self.bias * stretch, half * stretch
        return float(np.tanh(centre - half)), float(np.tanh(centre + half))

    def subsets_for(self, se: float) -> int:
        """The number of subsets with which the standard error would be `se`, for as many queries."""
        left = se**2 - self.query_variance
        if left <= 0:
            raise ValueError(
                f"{self.queries} queries alone leave a standard error of {np.sqrt(self.query_variance):.2g}, more than "
                f"the {se:g} asked for: take more queries"
            )
        return ceil(self.subsets * self.subset_variance / left)


def crossed_mean(pseudo: Array, value: float, *, correlation: bool = True) -> CrossedMean:
    """From jackknife pseudo-values (B, q), Bθ̂_j − (B − 1)θ̂_j without subset b.

        V_subsets = Σ_b (P_b· − P··)²/(B(B − 1)),     V_queries + V_both = Σ_j (P_·j − P··)²/(q(q − 1)),
        V_both = Σ_bj (P_bj − P_b· − P_·j + P··)²/((B − 1)(q − 1)Bq).

    Row means vary with the draw of subsets, column means with that of queries. Source: the delete-one jackknife (Efron)
    in a two-way layout.
    """
    count, queries = pseudo.shape
    if queries == 0:
        return CrossedMean(np.nan, np.nan, np.nan, np.nan, np.nan, count, 0, correlation)
    mean, rows, columns = pseudo.mean(), pseudo.mean(1), pseudo.mean(0)
    both = by_query = 0.0
    if queries > 1:
        left = pseudo - rows[:, None] - columns + mean
        both = float((left**2).sum()) / ((count - 1) * (queries - 1) * count * queries)
        by_query = max(float(columns.var(ddof=1)) / queries - both, 0.0)
    by_subset = float(rows.var(ddof=1)) / count
    return CrossedMean(value, value - float(mean), by_subset, by_query, both, count, queries, correlation)


def pseudo_values(whole: Array, without: Array) -> Array:
    """Bθ̂_j − (B − 1)θ̂_j without subset b, (B, q)."""
    count = len(without)
    return count * whole - (count - 1) * without
