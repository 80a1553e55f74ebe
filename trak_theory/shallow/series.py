"""Leave-one-out from derivatives at θ̂ alone: the displacement as a series, and the linearisation error it predicts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array

from trak_theory.errors import IndefiniteHessianError
from trak_theory.shallow.model import ShallowFit
from trak_theory.shallow.objective import Objective
from trak_theory.shallow.outputs import tangent
from trak_theory.shallow.queries import Queries
from trak_theory.shallow.solve import cholesky
from trak_theory.shallow.truth import without

TRUSTED = 0.1  # ratio of the series' second term to its first up to which two terms are a prediction


@dataclass(frozen=True, eq=False)
class Displacement:
    """θ̂_{−i} − θ̂ = first + second + O(third order), each (b, p); rows with an indefinite Hessian are NaN.

    first = −H_{−i}⁻¹ g_i, one Newton step (H the full Hessian without i, g its gradient at θ̂);
    second = −½ H_{−i}⁻¹ ∇³F_{−i}[first, first].
    """

    first: Array
    second: Array


def displacement(objective: Objective, theta: Array, rows: Array) -> Displacement:
    """The series for `rows` (b,), around a stationary θ (p,)."""
    n = objective.outputs.shape[0]
    first, second = np.full((2, len(rows), theta.size), np.nan)
    for k, i in enumerate(map(int, rows)):
        weights = without(n, i)
        try:
            solve = cholesky(objective.hessian(theta, weights))
        except IndefiniteHessianError:
            continue
        state = objective.at(theta[None], weights[None])
        first[k] = -solve(state.gradient[0])
        second[k] = -0.5 * solve(state.third(first[[k]])[0])
    return Displacement(first, second)


@dataclass(frozen=True, eq=False)
class LinearisationError:
    """Predicted I_exact − I_linearised (b, q), from derivatives at θ̂ alone, in three parts; presence sign.

    dropped curvature   −∇g·(δ − δ_T)        Σ r_i∇²f_i missing from the Hessian: δ and δ_T one Newton step each
    query curvature     −½(δᵀ∇²g δ − …_T)     the output is not linear along δ
    path curvature      −∇g·(δ₂ − δ₂_T)      the training outputs are not linear along δ: second order of the series

    Subscript T: the tangent model. Rows with an indefinite Hessian are NaN. ratio (b,) is ‖δ₂‖/‖δ‖ in the norm of
    ∇²F(θ̂): where it is not small the series has not begun to converge, and `trusted` says so.
    """

    dropped_curvature: Array
    query_curvature: Array
    path_curvature: Array
    ratio: Array

    @property
    def trusted(self) -> Array:
        """Rows (b,) whose second term is at most a tenth of the first: elsewhere the size is a guess, not the order."""
        return self.ratio <= TRUSTED

    @property
    def total(self) -> Array:
        return self.dropped_curvature + self.query_curvature + self.path_curvature


def predict_linearisation_error(fit: ShallowFit, queries: Queries, *, rows: Array | None = None) -> LinearisationError:
    """Predicted error of the linearised rung, kernel machine − exact, with nothing retrained."""
    if not fit.model.network.activation.smooth:
        raise ValueError(
            f"{fit.model.network.activation.name} has no second derivative at its kinks: no expansion predicts its "
            "linearisation error; use a smooth activation"
        )
    rows = np.arange(len(fit.outputs)) if rows is None else rows
    flat = tangent_objective(fit)
    full, linear = (displacement(objective, fit.theta, rows) for objective in (fit.objective, flat))
    gradient, flat_queries = queries.gradient(fit.theta), queries.linear(fit.theta)
    curvature = queries.curvature_along(fit.theta, full.first) - flat_queries.curvature_along(fit.theta, linear.first)
    return LinearisationError(
        -(full.first - linear.first) @ gradient.T,
        -0.5 * curvature,
        -(full.second - linear.second) @ gradient.T,
        _length(fit.hessian, full.second) / _length(fit.hessian, full.first),
    )


def _length(hessian: Array, v: Array) -> Array:
    return np.sqrt(np.einsum("bp,bp->b", v @ hessian, v))


def tangent_objective(fit: ShallowFit) -> Objective:
    """The kernel machine: the same loss and penalty on the outputs linearised at θ̂. Its minimiser is θ̂ too."""
    objective = fit.objective
    return Objective(tangent(objective.outputs, fit.theta), objective.head, objective.ridge, objective.centre)
