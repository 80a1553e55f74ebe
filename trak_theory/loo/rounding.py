"""Rounding of whitened rows and of a fit, as numbers that a certificate adds to its radius.

Sums of k terms are allowed √k units in the last place of the sum of absolute values; triangular solves and QR four of
the root sum of squares of what is multiplied, which does not grow with n or m; an evaluation of a loss four: several
times the largest error seen against extended precision, not the worst case of every operation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array
from scipy.linalg import solve_triangular

from trak_theory.glm.model import Fit
from trak_theory.losses import Loss
from trak_theory.numerics.whitening import EPS, EXTENDED_EPS, RowSpace

ROUNDING = 4 * EPS


@dataclass(frozen=True)
class WorkingPrecision:
    """Rounding of a fit in whitened coordinates.

    rows       ‖δa_j‖ of every whitened training row (n,)
    relative   ν: relative error of those rows, and of H = I in these coordinates
    losses     of the sum of all residuals, from evaluating the loss
    gradient   the fit's own gradient in the norm of H⁻¹, with the rounding of its sum, of losses and of features
    rotation   `rotation_error` of the training rows (n,)
    """

    rows: Array
    relative: float
    losses: float
    gradient: float
    rotation: Array


def product_error(rows: Array, vector: Array) -> Array:
    """Rounding of rows (…, m) times a vector whose entries are differences: ε (1 + √m) |rows| |vector|."""
    return EPS * (1 + np.sqrt(vector.size)) * (np.abs(rows) @ np.abs(vector))


def rotation_error(space: RowSpace, rows: Array) -> Array:
    """‖E‖ ≤ ε (4 + √m) ‖φ ∘ scale‖ of rows (…, p): the QR behind `space`, of m reflections, is one of φ ∘ scale + E.

    E need not lie in the span of the training rows: their minimisers leave the computed span by Σ_j r_j E_j, in the
    norm in which the ridge is 1, by more than a rotation that is off by ε moves what lies in it. 0 where nothing is
    rotated.
    """
    if space.basis is None:
        return np.zeros(len(rows))
    return EPS * (4 + np.sqrt(space.basis.shape[1])) * np.linalg.norm(rows * space.scale, axis=1)


def reduction_error(space: RowSpace, rows: Array) -> Array:
    """‖δψ‖ of rows (…, p) pulled into the coordinates of `space`, ε √p ‖|φ| |basis|‖; 0 where nothing is reduced."""
    if space.basis is None:
        return np.zeros(len(rows))
    return EPS * np.sqrt(rows.shape[1]) * np.linalg.norm(np.abs(rows) @ np.abs(space.basis), axis=1)


def whitening_error(space: RowSpace, factor: Array, rows: Array, whitened: Array) -> Array:
    """‖δa‖ of each whitened row a = R⁻ᵀψ; rows (…, p) in the original coordinates.

        ‖δa‖ ≤ 4ε κ ‖a‖ + ‖R⁻¹‖_F ‖δψ‖,     κ = max_j (Σ_k R_jk² ‖(R⁻¹)_k‖²)^½

    since a(R + δR) = ψ with δR_jk = O(ε)R_jk, and δa = −a δR R⁻¹. κ does not depend on the units of the features.
    """
    inverse = solve_triangular(factor, np.eye(len(factor)), check_finite=False)
    condition = np.sqrt((_relative_entries(factor, inverse) ** 2).sum(1).max())
    solves = ROUNDING * condition * np.linalg.norm(whitened, axis=1)
    return solves + np.linalg.norm(inverse) * reduction_error(space, rows)


def factor_error(factor: Array) -> float:
    """‖R⁻ᵀHR⁻¹ − I‖ ≤ 4ε (Σ_jk R_jk² ‖(R⁻¹)_k‖²)^½ for R from QR, whose error is a multiple of ε in each column."""
    inverse = solve_triangular(factor, np.eye(len(factor)), check_finite=False)
    return float(ROUNDING * np.linalg.norm(_relative_entries(factor, inverse)))


def _relative_entries(factor: Array, inverse: Array) -> Array:
    """R_jk ‖(R⁻¹)_k‖: what a relative error of R_jk does to R R⁻¹."""
    return factor * np.linalg.norm(inverse, axis=1)


def residual_error(loss: Loss, residual: Array, curvature: Array) -> Array:
    """Rounding of ∂ℓ/∂f at given outputs: 4ε (|r| + d/M₃), where d/M₃ is the size of what cancels in r."""
    cancelled = curvature / loss.self_concordance if loss.self_concordance else 0.0
    return ROUNDING * (np.abs(residual) + cancelled)


def working_precision(fit: Fit, rows: Array) -> WorkingPrecision:
    """The rounding of `fit` and of its whitened training rows (n, m)."""
    theta, lengths = fit.minimum.theta, np.linalg.norm(rows, axis=1)
    errors = whitening_error(fit.space, fit.minimum.factor, fit.glm.features, rows)
    relative = float(np.max(errors[lengths > 0] / lengths[lengths > 0], initial=0.0))
    relative += factor_error(fit.minimum.factor)
    terms = np.sqrt(theta.size) * (np.abs(fit.space.features) @ np.abs(theta)) + np.abs(fit.glm.offset)
    reduced = reduction_error(fit.space, fit.glm.features) * np.linalg.norm(theta)
    outputs = EPS * np.abs(fit.outputs) + EXTENDED_EPS * terms + reduced
    moved = (fit.glm.loss.self_concordance or 0.0) * float(outputs.max())  # log of the curvatures

    losses = float(np.linalg.norm(residual_error(fit.glm.loss, fit.residual, fit.curvature) * lengths))
    gradient = _own_gradient(fit) + losses + np.linalg.norm(np.sqrt(fit.curvature) * outputs)
    if fit.space.basis is not None:
        gradient += np.linalg.norm(fit.residual) * np.linalg.norm(errors)
    rotation = rotation_error(fit.space, fit.glm.features)
    return WorkingPrecision(errors, relative + moved, losses, float(gradient), rotation)


def _own_gradient(fit: Fit) -> float:
    """‖∇F(θ̂)‖_{H⁻¹} of the sum in extended precision, with an allowance for that sum."""
    factor, features = fit.minimum.factor, fit.space.features
    inverse = np.abs(solve_triangular(factor, np.eye(len(factor)), check_finite=False))
    terms = np.abs(features).T @ np.abs(fit.residual) + fit.space.ridge * np.abs(fit.minimum.theta)
    summed = EXTENDED_EPS * (2 + np.sqrt(len(features))) * np.linalg.norm(terms @ inverse)
    found = solve_triangular(factor, fit.minimum.gradient, trans="T", check_finite=False)
    return float(np.linalg.norm(found) + summed)
