"""Findings about scores, in words: alarms, rounding, zeros."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

from trak_theory.auditing.checking.alarms import ScoreCheck
from trak_theory.auditing.inputs import AuditData
from trak_theory.projection.kernel_law import KernelLaw

ROUNDING = 3.0  # ε s_max/s_min of the projected Gram matrix: below it, Kendall ≥ .9 in all trials of audit_rounding
MEANINGS = {
    "correlation with the mean": "they do not follow the scores that the features imply: wrong sign, order or model",
    "Kendall's τ with the mean": "their order does not follow the scores that the features imply",
    "spread of z": "their noise is not that of the stated k and ridge",
    "coverage of 95 % intervals": "their noise is not that of the stated k and ridge",
    "tails": "some lie far outside their error bars: permuted rows, or other residuals",
    "worst query": "one query lies far outside its error bars: permuted queries, or another model",
    "exchanged queries": "one query has scores that fit another one better: permuted queries",
    "worst point": "one point lies far outside its error bars: permuted points, or other residuals",
    "joint spread": "their noise is not correlated as one projection of these features makes it",
    "worst direction": "their noise is not correlated as one projection of these features makes it",
    "correlation in whitened coordinates": "direction by direction they do not follow what the features imply",
    "tails in whitened coordinates": "some directions lie far outside their error bars: permuted rows or queries",
    "weak directions": "they have parts that no projection of these features has: another k, or rounding",
    "effective rank": "the score matrix does not have the rank that the features give",
    "energy beyond the rank": "the score matrix has a higher rank than k allows",
    "fit of half of k": "half of the stated k fits them better",
    "fit of twice k": "twice the stated k fits them better",
    "fit of a third of the ridge": "a third of the stated ridge fits them better",
    "fit of three times the ridge": "three times the stated ridge fits them better",
    "trend with residuals": "their size does not grow with the residuals: normalised, ranked, or other residuals",
    "trend with lengths of points": "their size does not follow the lengths of gradients: normalised scores",
    "trend with lengths of queries": "their size does not follow the lengths of query gradients: normalised scores",
}


def alarm_clause(check: ScoreCheck) -> str:
    """What the statistic that is farthest from the law's means."""
    return MEANINGS[check.worst.name]


def alarm_numbers(check: ScoreCheck) -> str:
    """That statistic with its numbers."""
    worst = check.worst
    return (
        f"{worst.name}: {worst.value:.3g} where the law says {worst.expected:.3g} ± {worst.sd:.2g}; healthy scores are "
        "as extreme in any statistic in 1 of 150 audits"
    )


def smallest_eigenvalue(law: KernelLaw) -> float:
    """Lower edge of the spectrum of PᵀSP + μI: μ + max_γ γ(df(γ)/k − 1), and μ alone for k ≥ rank.

    −μ(γ) = γ(df(γ)/k − 1) is where the law ceases to have a root. Source: ours, after Silverstein and Choi.
    """
    space, k = law.space, law.k
    if k >= space.rank:
        return law.ridge

    def edge(log_ridge: float) -> float:
        ridge = np.exp(log_ridge)
        return float(ridge * (1 - space.degrees_of_freedom(ridge) / k))

    low, high = np.log(space.eigenvalues[[0, -1]]) - [np.log(space.rank), 0.0]
    grid = np.linspace(low, high, 64)
    start = int(np.argmin([edge(x) for x in grid]))
    bounds = grid[max(start - 1, 0)], grid[min(start + 1, 63)]
    return law.ridge - min(float(minimize_scalar(edge, bounds=bounds, method="bounded").fun), 0.0)


def rounding_sentence(largest: float, smallest: float, epsilon: float) -> str | None:
    """Words for scores whose projected Gram matrix cannot be inverted at this precision; None where it can."""
    share = epsilon * largest / smallest if smallest > 0 else np.inf
    if share < ROUNDING:
        return None
    return (
        f"they are dominated by rounding noise: the projected Gram matrix has eigenvalues from {smallest:.2g} to "
        f"{largest:.2g}, beyond a precision of {epsilon:.1g}"
    )


def zero_scores(data: AuditData) -> str | None:
    """Words for scores that are zero, or not, where they should not be; None if there are none."""
    scores, informative = data.scores, data.informative
    if scores is None:
        return None
    if not scores.any():
        return "all of them are 0"
    empty = informative & ~scores.any(0)
    if empty.any():
        return f"all scores of query {int(np.flatnonzero(empty)[0])} are 0 though its gradient is not"
    impossible = ~informative & scores.any(0)
    if impossible.any():
        return f"query {int(np.flatnonzero(impossible)[0])} has scores though its gradient is 0"
    return None
