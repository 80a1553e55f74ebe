"""Numbers with 95 % intervals over what was sampled: runs, data sets, networks. Settings are fixed, not sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest, t

CONFIDENCE = 0.95
ROUNDING = 1e-9  # of a law that was evaluated more than once
NORMAL = 1.96  # its quantile, where a standard error is known from many draws


@dataclass(frozen=True)
class Measured:
    """A number and the interval that covers it with 95 %.

    over   what was sampled, in words
    parts  the same in each of the settings that it is a mean over, where a setting has an interval of its own
    """

    value: float
    low: float
    high: float
    over: str
    parts: tuple[Measured, ...] = ()


def sample(values: Any, unit: str) -> Measured:
    """Mean of independent values; NaN values left out. The interval is Student's, and endless for one value."""
    kept = np.asarray(values, float)
    kept = kept[np.isfinite(kept)]
    error = kept.std(ddof=1) / np.sqrt(kept.size) if kept.size > 1 else np.inf
    return _student(float(kept.mean()), error, kept.size - 1, f"{kept.size} {unit}")


def stratified(values: pd.Series, settings: list[str], unit: str) -> Measured:
    """Mean over settings of the mean over their replicates; `values` holds one number for each replicate.

    With one replicate in every setting the differences between settings count as noise: the interval is too wide
    rather than too narrow.
    """
    groups = [group.dropna() for _, group in values.dropna().groupby(settings)] if settings else [values]
    if len(groups) == 1 or all(len(group) == 1 for group in groups):
        alone = " in one setting each" if len(groups) > 1 else ""
        return sample(values, unit + alone)
    parts = tuple(sample(group, unit) for group in groups if len(group) > 1)
    error, freedom = _of_strata([group / len(groups) for group in groups])
    center = float(np.mean([group.mean() for group in groups]))
    return _student(center, error, freedom, f"{len(values)} {unit} in {len(groups)} settings", parts)


def by_replicate(rows: pd.DataFrame, value: str, settings: list[str], unit: str, over: str = "replicate") -> Measured:
    """`stratified`, of the mean of a column over all rows of a replicate."""
    return stratified(rows.groupby([*settings, over])[value].mean(), settings, unit)


def contrast(
    rows: pd.DataFrame,
    by: str,
    first: Any,
    second: Any,
    value: str,
    settings: list[str],
    unit: str,
    over: str = "replicate",
) -> Measured:
    """`stratified`, of value(by = first) − value(by = second), paired in every replicate."""
    table = rows[rows[by].isin([first, second])].pivot_table(value, [*settings, over], by)
    return stratified(table[first] - table[second], settings, f"pairs of {unit}")


def law_gap(
    rows: pd.DataFrame, designs: list[str], settings: list[str], value: str = "kendall", unit: str = "data sets"
) -> Measured:
    """Mean over all settings of |law − mean over data sets|.

    A data set of a design gives a number for each of the `settings`; these are not independent, the data sets are. The
    noise of few data sets adds to the gap, so that a bound on it that holds, holds for the law.
    Raises ValueError where designs and settings leave several laws in one group.
    """
    laws = rows[rows["part"] == "law"].groupby([*designs, *settings])[value]
    law = laws.mean()
    if (several := laws.max() - laws.min() > ROUNDING).any():
        raise ValueError(f"{several.idxmax()}: several laws under one {designs + settings}; name what tells them apart")
    data = rows[rows["part"] == "data"].groupby([*designs, *settings, "replicate"])[value].mean().unstack()
    gap = (data.mean(axis=1) - law).dropna()
    signed = data.loc[gap.index].mul(np.sign(gap), axis=0) / len(gap)
    strata = [part.sum(min_count=1).dropna() for _, part in signed.groupby(designs)]
    error, freedom = _of_strata(strata)
    count = sum(len(stratum) for stratum in strata)
    found = _student(float(gap.abs().mean()), error, freedom, f"{count} {unit}, {len(gap)} settings")
    return replace(found, low=max(found.low, 0.0))


def known(gaps: Any, errors: Any, unit: str) -> Measured:
    """Mean of |gap| over settings whose standard errors the study measured, over draws that no two settings share."""
    gaps, errors = np.abs(np.asarray(gaps, float)), np.asarray(errors, float)
    center, half = float(gaps.mean()), NORMAL * float(np.sqrt(np.sum(errors**2))) / gaps.size
    return Measured(center, max(center - half, 0.0), center + half, f"{gaps.size} settings, {unit} in each")


def share(successes: Any, unit: str) -> Measured:
    """Share of independent trials that succeed, with Clopper and Pearson's interval."""
    successes = np.asarray(successes, bool)
    found = binomtest(int(successes.sum()), successes.size)
    interval = found.proportion_ci(CONFIDENCE)
    return Measured(float(successes.mean()), interval.low, interval.high, f"{successes.size} {unit}")


def count(cases: Any, of: Any, unit: str) -> Measured:
    """Number of cases: a statement on all that were tried, and on no others."""
    number = float(np.sum(cases))
    return Measured(number, number, number, f"all {int(np.sum(of)):,} {unit}")


def largest(values: Any, unit: str) -> Measured:
    """The largest: a statement on all that were tried, and on no others."""
    values = np.asarray(values, float)
    worst = float(values.max())
    return Measured(worst, worst, worst, f"all {values.size:,} {unit}")


def _student(value: float, error: float, freedom: float, over: str, parts: tuple[Measured, ...] = ()) -> Measured:
    half = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * error if np.isfinite(error) else np.inf
    return Measured(value, value - half, value + half, over, parts)


def _of_strata(groups: Sequence[pd.Series]) -> tuple[float, float]:
    """Standard error of the sum of the groups' means, and its degrees of freedom (Welch and Satterthwaite).

    A group of one has the mean variance of the others.
    """
    sizes = np.array([len(group) for group in groups])
    if not np.any(sizes > 1):
        return np.inf, 1.0
    pooled = float(np.mean([group.var(ddof=1) for group in groups if len(group) > 1]))
    variances = np.array([group.var(ddof=1) if len(group) > 1 else pooled for group in groups]) / sizes
    several = sizes > 1
    spread = np.sum(variances[several] ** 2 / (sizes[several] - 1))
    freedom = variances[several].sum() ** 2 / spread if spread > 0 else float(np.sum(sizes - 1))
    return float(np.sqrt(variances.sum())), float(freedom)
