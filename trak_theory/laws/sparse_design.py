"""Rows with independent sparse entries: what their norms and their overlap with a query do to the rank law.

x_a = b_a g_a/√δ with b_a ~ Bernoulli(δ), g_a ~ N(0, 1): entries of variance 1 and kurtosis 3/δ. Two things differ from
Gaussian rows at order 1/(δ²p). The squared norms spread like p(1 ± √((3/δ − 3)/p)): an elliptical design. And
xᵀMx* = Σ_a M_aa x_a x*_a + Σ_{a≠b}: the diagonal of a kernel, on which truth and estimate agree, acts on the shared
coordinates alone. A point that shares few with its query is ranked by the noise of the off-diagonal.
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array
from scipy.stats import binom, gamma

from trak_theory.laws.gaussian_pair import Sharing
from trak_theory.numerics.quadrature import gauss_rule

QUANTILES = 1_000
SHARED_NODES, QUANTILES_OF_A_COUNT = 12, 24
NEGLIGIBLE = 1e-12
FEW_ENTRIES = 10.0  # non-zero entries of a row or a column, below which the law is not a number


def check_density(n: int, p: int, density: float | None) -> float:
    """δ, or the error that names what is wrong with it."""
    if density is None or not 0 < density <= 1:
        raise ValueError(f'kind = "sparse" needs density, the share of non-zero entries in (0, 1], got {density}')
    if density * min(n, p) < FEW_ENTRIES:
        raise ValueError(
            f"no rank law applies: with density {density:g} a row has {density * p:.3g} non-zero entries and a column "
            f"{density * n:.3g}; the law needs {FEW_ENTRIES:g} of each. Fit the model and use conditional_rank_law"
        )
    return float(density)


def sparse_scales(p: int, density: float) -> Array | None:
    """Scales c of the rows (equally likely): c² of mean 1 and variance (3/δ − 3)/p, a gamma law; None at δ = 1."""
    variance = (3 / density - 3) / p
    if variance == 0:
        return None
    levels = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return np.sqrt(gamma.ppf(levels, 1 / variance, scale=variance))


def sparse_sharing(p: int, density: float, *, truth: float, estimate: float, between: float) -> Sharing:
    """t = Σ g*²/(δ²p) over the shared coordinates, Binomial(δp, δ) many; its variance over the points of one query.

    truth, estimate, between: the share of the diagonal in q₁₁, v and q₁₂. Var t = 3(1 − δ)/(δ²p): what the query's own
    norm adds to the variance of the χ² is common to all points and shrunk away.
    """
    counts = np.arange(round(density * p) + 1)
    chances = binom.pmf(counts, counts[-1], density)
    counts, chances = counts[chances > NEGLIGIBLE], chances[chances > NEGLIGIBLE]
    parts = [_square_rule(int(count), chance) for count, chance in zip(counts, chances, strict=True)]
    squares, weights = (np.concatenate(part) for part in zip(*parts, strict=True))
    weights = weights / weights.sum()
    shared = squares / (weights @ squares)
    shrink = np.sqrt((3 - 3 * density) / (3 - density))
    return Sharing(*gauss_rule(1 + shrink * (shared - 1), weights, SHARED_NODES), truth, estimate, between)


def _square_rule(count: int, chance: float) -> tuple[Array, Array]:
    """Quantiles of χ² with `count` degrees of freedom, of total mass `chance`."""
    if count == 0:
        return np.zeros(1), np.full(1, chance)
    levels = (np.arange(QUANTILES_OF_A_COUNT) + 0.5) / QUANTILES_OF_A_COUNT
    return 2 * gamma.ppf(levels, count / 2), np.full(levels.size, chance / levels.size)
