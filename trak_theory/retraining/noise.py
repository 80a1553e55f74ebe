"""Ceilings of the LDS: the noise of training, and the part of an output that is no sum over points."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array


def spearman_of(pearson: Array) -> Array:
    """Spearman's ρ of a normal pair with this Pearson correlation, (6/π) asin(ρ/2)."""
    return 6 / np.pi * np.arcsin(np.clip(pearson, -1.0, 1.0) / 2)


def noise_ceiling(outputs: Array, replicates: Array) -> tuple[Array, Array]:
    """The largest Spearman correlation of a function of the subset with outputs: (q,), and without each subset (B, q).

    replicates (R, B, q) train again on the same subsets. What two of them share is the signal: with one replicate the
    reliability is its correlation with the outputs (of another training); with R ≥ 2 it is

        ρ_ff = mean over pairs r ≠ s of cov(f_r, f_s) / Var(outputs),

    whether the outputs are one training or a mean of several. Ceiling √ρ_ff, carried from Pearson to Spearman for
    normal outputs; a covariance below 0 counts as 0.
    """
    spread = _covariances(outputs, outputs)
    if len(replicates) == 1:
        again = _covariances(replicates[0], replicates[0])
        return _ceiling(_covariances(outputs, replicates[0]), np.sqrt(spread * again))
    total, each = replicates.sum(0), sum(_covariances(one, one) for one in replicates)
    pairs = len(replicates) * (len(replicates) - 1)
    return _ceiling((_covariances(total, total) - each) / pairs, spread)


def additive_ceiling(outputs: Array, members: Array) -> tuple[Array, Array]:
    """The largest Spearman correlation of Σ_{i∈S} T_i with outputs, whatever T: (q,), and without each subset (B, q).

    √ of the adjusted R² of outputs (B, q) on membership (B, n), carried to Spearman; the noise of training is in it.
    Needs more subsets than the rank of the membership.
    """
    count = len(members)
    design = np.column_stack([np.ones(count), members])
    left, values, _ = np.linalg.svd(design, full_matrices=False)
    basis = left[:, values > count * np.finfo(float).eps * values[0]]
    free = count - basis.shape[1]
    errors = outputs - basis @ (basis.T @ outputs)
    remaining = np.maximum(1 - np.einsum("bm,bm->b", basis, basis), 1e-12)[:, None]
    squares = (errors**2).sum(0)
    unexplained = np.vstack([squares / free, (squares - errors**2 / remaining) / (free - 1)])
    spread = _covariances(outputs, outputs)
    return _ceiling(spread - unexplained, spread)


def _ceiling(signal: Array, spread: Array) -> tuple[Array, Array]:
    with np.errstate(invalid="ignore", divide="ignore"):
        ceiling = spearman_of(np.sqrt(np.clip(signal / spread, 0.0, 1.0)))
    return ceiling[0], ceiling[1:]


def _covariances(first: Array, second: Array) -> Array:
    """Covariance of columns (B, q), and without each row in turn: (1 + B, q)."""
    count = len(first)
    x, y = first - first.mean(0), second - second.mean(0)
    total = (x * y).sum(0)
    return np.vstack([total / (count - 1), (total - x * y * count / (count - 1)) / (count - 2)])
