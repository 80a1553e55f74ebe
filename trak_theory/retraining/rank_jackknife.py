"""Spearman correlations and their delete-one values, all from one pass over pairs."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

PAIRS_AT_ONCE = 2**18


def spearman_jackknife(first: Array, second: Array) -> tuple[Array, Array]:
    """Spearman's ρ of the columns of (B, q) and (B, q): (q,), and ρ without each row in turn (B, q); ties share ranks.

    A centred rank is half of a_i = Σ_j sgn(x_i − x_j). Without row b it is a_i − sgn(x_i − x_b): ρ₍₋b₎ follows from
    the sign matrices X and Y by

        Σ_{i≠b} (a_i − X_ib)(c_i − Y_ib) = aᵀc − a_b c_b − (cᵀX)_b − (aᵀY)_b + (XᵀY)_bb,

    and likewise the sums of squares. NaN where a side is constant. O(q B²).
    """
    count, queries = first.shape
    size = max(1, PAIRS_AT_ONCE // count**2)
    parts = [
        _jackknife(first.T[start : start + size], second.T[start : start + size]) for start in range(0, queries, size)
    ]
    found = np.concatenate(parts) if parts else np.empty((0, count + 1))
    return found[:, 0], found[:, 1:].T


def _jackknife(first: Array, second: Array) -> Array:
    """(q, 1 + B): ρ, then without each."""
    x, y = (np.sign(rows[:, :, None] - rows[:, None, :]) for rows in (first, second))
    a, c = x.sum(2), y.sum(2)
    cross, left, right = _sums(x, y, a, c), _sums(x, x, a, a), _sums(y, y, c, c)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = cross / np.sqrt(left * right)
    rho[(left == 0) | (right == 0)] = np.nan
    return rho


def _sums(x: Array, y: Array, a: Array, c: Array) -> Array:
    """Σ_i a_ic_i, and the same over i ≠ b with ranks among the others: (q, 1 + B)."""
    total = np.einsum("qb,qb->q", a, c)[:, None]
    own = np.einsum("qi,qib->qb", c, x) + np.einsum("qi,qib->qb", a, y) - np.einsum("qib,qib->qb", x, y)
    return np.hstack([total, total - a * c - own])
