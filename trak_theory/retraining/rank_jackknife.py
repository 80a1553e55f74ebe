"""Spearman correlation and its delete-one values, all from one pass over pairs."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array


def spearman_jackknife(first: Array, second: Array) -> tuple[float, Array]:
    """Spearman's ρ of two columns (B,), and ρ without each of the B pairs (B,); ties share the mean rank.

    A centred rank is half of a_i = Σ_j sgn(x_i − x_j). Without pair b it is a_i − sgn(x_i − x_b): ρ₍₋b₎ follows from
    the sign matrices X and Y by

        Σ_{i≠b} (a_i − X_ib)(c_i − Y_ib) = aᵀc − a_b c_b − (cᵀX)_b − (aᵀY)_b + (XᵀY)_bb,

    and likewise the sums of squares. NaN where a side is constant. O(B²).
    """
    x, y = (np.sign(values[:, None] - values) for values in (first, second))
    a, c = x.sum(1), y.sum(1)
    products = [_without_each(*pair) for pair in ((x, y, a, c), (x, x, a, a), (y, y, c, c))]
    cross, left, right = (np.append(total, each) for total, each in products)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = cross / np.sqrt(left * right)
    rho[(left == 0) | (right == 0)] = np.nan
    return float(rho[0]), rho[1:]


def _without_each(x: Array, y: Array, a: Array, c: Array) -> tuple[float, Array]:
    """aᵀc, and the same sum over i ≠ b with ranks among the others (B,)."""
    total = float(a @ c)
    return total, total - a * c - c @ x - a @ y + np.einsum("ib,ib->b", x, y)
