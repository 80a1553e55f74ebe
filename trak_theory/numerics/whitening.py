"""Exact changes of coordinates: the row space of the features, and the whitening of a Hessian.

With p > n every ridge minimiser lies in the span of the training rows, so the problem *is* its reduction to
that span. One QR of the rows replaces the dual formulas; they remain in the tests as the oracle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array
from scipy.linalg import lapack, qr, solve_triangular

from trak_theory.errors import RankDeficientError

EPS = float(np.finfo(float).eps)
EXTENDED_EPS = float(np.finfo(np.longdouble).eps)  # the same as EPS where a long double is a double
EXTENDED_ROWS = 64


@dataclass(frozen=True)
class RowSpace:
    """Coordinates ψ with θ = basis ψ: features Φ basis (n, m), penalty Σ ridge_j ψ_j²/2, m ≤ n + #{ridge = 0}.

    `basis` is None where p ≤ n and nothing changes. scale (p,) multiplies the columns before they are rotated; 0 for
    those that stay.
    """

    features: Array
    ridge: Array
    basis: Array | None
    scale: Array

    def pull(self, queries: Array) -> Array:
        """Query rows (q, p) in these coordinates, (q, m)."""
        return queries if self.basis is None else queries @ self.basis

    def lift(self, coordinates: Array) -> Array:
        """Rows of coordinates (…, m) as parameters (…, p)."""
        return coordinates if self.basis is None else coordinates @ self.basis.T


def row_space(features: Array, ridge: Array) -> RowSpace:
    """The reduction of (features (n, p), ridge (p,)) to the row space when p > n, the identity otherwise.

    Penalised columns are scaled to unit ridge and rotated into the span of the rows; unpenalised ones stay.
    With ridge 0 everywhere the reduction is the minimum-norm (pseudo-inverse) solution.
    """
    n, p = features.shape
    penalised = ridge > 0 if ridge.any() else np.ones(p, bool)
    if p <= n or penalised.sum() <= n:
        return RowSpace(features, ridge, None, np.zeros(p))
    scale = np.zeros(p)
    scale[penalised] = ridge[penalised] ** -0.5 if ridge.any() else 1.0
    rotation, triangle = qr((features * scale)[:, penalised].T, mode="economic", check_finite=False)
    free = np.flatnonzero(~penalised)
    basis = np.zeros((p, n + free.size))
    basis[penalised, :n] = scale[penalised, None] * rotation
    basis[free, n + np.arange(free.size)] = 1.0
    reduced = np.hstack([triangle.T, features[:, free]])
    unit = 1.0 if ridge.any() else 0.0
    return RowSpace(reduced, np.r_[np.full(n, unit), np.zeros(free.size)], basis, scale)


def hessian_factor(features: Array, curvature: Array, ridge: Array) -> Array:
    """Upper triangular R with RᵀR = ΦᵀDΦ + Λ, by QR of the stacked rows: cond(Φ) is never squared.

    Raises RankDeficientError when the equilibrated R is singular in floating point.
    """
    rows = features * np.sqrt(curvature)[:, None]
    penalised = np.flatnonzero(ridge)
    decay = np.zeros((penalised.size, features.shape[1]))
    decay[np.arange(penalised.size), penalised] = np.sqrt(ridge[penalised])
    stacked = np.vstack([rows, decay])
    m = stacked.shape[1]
    if stacked.shape[0] < m:
        raise RankDeficientError(
            f"{stacked.shape[0]} rows with curvature or ridge cannot determine {m} coefficients; add a ridge"
        )
    (factor,) = qr(stacked, mode="r", check_finite=False)
    factor = factor[:m]
    lengths = np.linalg.norm(factor, axis=0)
    if not lengths.all():
        j = int(np.argmin(lengths))
        zero = "is zero" if not features[:, j].any() else "has entries only where the curvature of the loss is zero"
        raise RankDeficientError(f"column {j} {zero} and has no ridge: drop it or add a ridge")
    reciprocal_condition, _ = lapack.dtrcon(factor / lengths, norm="1", uplo="U")
    if reciprocal_condition < m * EPS:
        raise RankDeficientError(
            f"the curvature-weighted features are rank deficient (reciprocal condition {reciprocal_condition:.1e} "
            f"over {m} columns): drop dependent columns or add a ridge"
        )
    return factor


def whiten(factor: Array, rows: Array) -> Array:
    """Rows φ of `rows` (…, m) as φᵀR⁻¹, so that inner products become φᵀH⁻¹φ′."""
    return np.ascontiguousarray(solve_triangular(factor, rows.T, trans="T", check_finite=False).T)


def extended_product(matrix: Array, vector: Array) -> Array:
    """matrix @ vector, multiplied and summed in long double, which the result is in."""
    long = vector.astype(np.longdouble)
    starts = range(0, len(matrix), EXTENDED_ROWS)
    return np.concatenate([matrix[start : start + EXTENDED_ROWS].astype(np.longdouble) @ long for start in starts])
