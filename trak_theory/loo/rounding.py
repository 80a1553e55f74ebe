"""What floating point can do to whitened rows and to a fit, as numbers that a certificate adds to its radius.

Sums of k terms are allowed √k units in the last place of the sum of absolute values, triangular solves and QR of
n rows and order m are allowed m + √n: the usual size with room to spare, not the worst case of every operation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array
from scipy.linalg import solve_triangular

from trak_theory.glm.model import Fit
from trak_theory.loo.problems import LeaveOneOutProblems
from trak_theory.numerics.whitening import EPS, RowSpace


@dataclass(frozen=True)
class WorkingPrecision:
    """Rounding of a fit in whitened coordinates.

    relative   ν: relative error of every whitened training row, and of H = I in these coordinates
    gradient   the fit's own gradient in the norm of H⁻¹, with the rounding of its sum, of outputs and of features
    """

    relative: float
    gradient: float


def reduction_error(space: RowSpace, rows: Array) -> Array:
    """‖δψ‖ of rows (…, p) pulled into the coordinates of `space`, ε √p ‖|φ| |basis|‖; 0 where nothing is reduced."""
    if space.basis is None:
        return np.zeros(len(rows))
    return EPS * np.sqrt(rows.shape[1]) * np.linalg.norm(np.abs(rows) @ np.abs(space.basis), axis=1)


def whitening_error(space: RowSpace, factor: Array, rows: Array, whitened: Array) -> Array:
    """‖δa‖ of each whitened row a = R⁻ᵀψ; rows (…, p) in the original coordinates.

        ‖δa‖ ≤ ε (m + √n) κ ‖a‖ + ‖R⁻¹‖_F ‖δψ‖,     κ = ‖diag(‖R_j‖) R⁻¹‖_F  (columns R_j of R)

    κ does not depend on the units of the features.
    """
    m = len(factor)
    inverse = solve_triangular(factor, np.eye(m), check_finite=False)
    condition = np.linalg.norm(np.linalg.norm(factor, axis=0)[:, None] * inverse)
    solves = EPS * (m + np.sqrt(len(space.features))) * condition * np.linalg.norm(whitened, axis=1)
    return solves + np.linalg.norm(inverse) * reduction_error(space, rows)


def working_precision(fit: Fit, problems: LeaveOneOutProblems) -> WorkingPrecision:
    """The rounding of `fit` and of its whitened leave-one-out problems."""
    space, theta, glm, factor = fit.space, fit.minimum.theta, fit.glm, fit.minimum.factor
    lengths = np.sqrt(problems.square_lengths)
    seen = lengths > 0
    rows = whitening_error(space, factor, glm.features, problems.rows)
    outputs = EPS * np.sqrt(len(theta)) * (np.abs(space.features) @ np.abs(theta))
    outputs += reduction_error(space, glm.features) * np.linalg.norm(theta)
    drift = (glm.loss.self_concordance or 0.0) * float(outputs.max())

    own = fit.minimum.decrement + fit.objective.decrement_rounding(theta, factor) + 4 * problems.rounding_floor
    from_outputs = 2 * np.linalg.norm(np.sqrt(fit.curvature) * outputs)
    from_features = 0.0 if space.basis is None else np.linalg.norm(fit.residual) * np.linalg.norm(rows)
    return WorkingPrecision(
        relative=float(np.max(rows[seen] / lengths[seen], initial=0.0)) + drift,
        gradient=float(own + from_outputs + from_features),
    )
