"""A rank correlation for each query, with its delete-one values, and the queries that have none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array

from trak_theory.retraining.crossed import pseudo_values
from trak_theory.retraining.rank_jackknife import spearman_jackknife


@dataclass(frozen=True, eq=False)
class PerQuery:
    """Spearman over subsets: values (q,), without each subset (B, q), and query → why it has none (NaN there)."""

    values: Array
    without: Array
    undefined: dict[int, str]

    @property
    def kept(self) -> Array:
        return np.flatnonzero(np.isfinite(self.values))

    @property
    def mean(self) -> float:
        return mean_or_nan(self.values[self.kept])

    @property
    def pseudo(self) -> Array:
        """Pseudo-values (B, q kept)."""
        return pseudo_values(self.values[self.kept], self.without[:, self.kept])


def spearman_per_query(predicted: Array, outputs: Array, excluded: dict[int, str]) -> PerQuery:
    """Columns (B, q) against columns, but for the queries `excluded`."""
    values, without, undefined = np.full(outputs.shape[1], np.nan), np.full(outputs.shape, np.nan), dict(excluded)
    kept = np.setdiff1d(np.arange(values.size), list(undefined))
    values[kept], without[:, kept] = spearman_jackknife(predicted[:, kept], outputs[:, kept])
    for j in kept[np.isnan(without[:, kept]).any(0)].tolist():
        values[j], undefined[j] = np.nan, "one subset alone differs from all others"
    return PerQuery(values, without, dict(sorted(undefined.items())))


def constant_outputs(*outputs: Array) -> dict[int, str]:
    """Queries whose outputs do not vary over subsets in one of the arrays (B, q)."""
    flat = np.any([np.ptp(each, axis=0) == 0 for each in outputs], axis=0)
    return {int(j): "the outputs are the same for all subsets" for j in np.flatnonzero(flat)}


def constant_queries(members: Array, scores: Array, outputs: Array) -> dict[int, str]:
    """Queries whose outputs or summed scores do not vary over subsets, beyond the rounding of the sums."""
    predicted, rounding = members @ scores, 4 * np.finfo(float).eps * (members @ np.abs(scores)).max(0)
    flat = np.flatnonzero(np.ptp(predicted, axis=0) <= rounding)
    return {int(j): "the summed scores are the same for all subsets" for j in flat} | constant_outputs(outputs)


def mean_or_nan(values: Array) -> float:
    return float(values.mean()) if values.size else np.nan
