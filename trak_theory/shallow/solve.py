"""Stationary points: one by scipy from any start, many by batched Newton–CG from a neighbouring optimum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy import ndarray as Array
from scipy.linalg import cho_factor, cho_solve, eigh
from scipy.optimize import minimize

from trak_theory.errors import ConvergenceError, IndefiniteHessianError
from trak_theory.numerics.whitening import EPS
from trak_theory.shallow.objective import Objective, State

DESCENT_STEPS = 20_000
TRUST_STEPS = 300
POLISH_STEPS = 8
ESCAPES = 4
NUDGE = 1e-2  # of ‖θ‖: a step off a saddle, beyond rounding and within the reach of the quadratic model
NEWTON_STEPS = 12
CG_STEPS = 40
HALVINGS = 30
SUFFICIENT_DECREASE = 1e-4
AT_ROUNDING = 4.0  # a gradient within this multiple of its own rounding is zero

Solve = Callable[[Array], Array]


def stationary_point(objective: Objective, start: Array, weights: Array) -> Array:
    """A stationary θ (p,): L-BFGS from `start`, then a trust region with the full Hessian, then Newton to rounding.

    Raises ConvergenceError when the gradient stays above its rounding floor, IndefiniteHessianError at a flat one.
    """
    options: Any = {"maxiter": DESCENT_STEPS, "maxfun": DESCENT_STEPS, "maxcor": 20, "ftol": 1e-13, "gtol": 1e-7}
    value: Any = partial(_value_and_gradient, objective, weights)
    return trust_region(objective, minimize(value, start, jac=True, method="L-BFGS-B", options=options).x, weights)


def trust_region(objective: Objective, start: Array, weights: Array) -> Array:
    """A strict minimum (p,) by descent from `start`: a trust region with the full Hessian, then Newton to rounding.

    A saddle (a dead unit that would now be of use is one, by symmetry) is left along its negative curvature.
    """
    theta = start
    for _ in range(ESCAPES):
        theta = _polish(objective, _descend(objective, theta, weights), weights)
        curvature, direction = lowest_curvature(objective.hessian(theta, weights))
        if curvature > 0:
            return _stationary(objective, theta, weights)
        theta = theta + NUDGE * max(1.0, float(np.linalg.norm(theta))) * direction
    raise IndefiniteHessianError(
        f"no strict minimum reached: after {ESCAPES} descents the smallest Hessian eigenvalue is {curvature:.2e} at "
        f"gradient norm {gradient_norm(objective, theta, weights):.1e}; a flat direction: use a larger ridge"
    )


def _descend(objective: Objective, start: Array, weights: Array) -> Array:
    def product(theta: Array, v: Array) -> Array:
        return objective.at(theta[None], weights[None]).hvp(v[None])[0]

    options: Any = {"gtol": max(objective.gradient_rounding(start), 1e-9), "maxiter": TRUST_STEPS}
    value: Any = partial(_value_and_gradient, objective, weights)
    return minimize(value, start, jac=True, hessp=product, method="trust-ncg", options=options).x


def _value_and_gradient(objective: Objective, weights: Array, theta: Array) -> tuple[float, Array]:
    state = objective.at(theta[None], weights[None])
    return float(state.value[0]), state.gradient[0]


def _polish(objective: Objective, theta: Array, weights: Array) -> Array:
    """Newton steps while they shrink the gradient; function values no longer resolve progress here."""
    norm = gradient_norm(objective, theta, weights)
    for _ in range(POLISH_STEPS):
        if is_stationary(objective, theta, weights):
            break
        try:
            solve = cholesky(objective.hessian(theta, weights))
        except IndefiniteHessianError:
            break
        trial = theta - solve(objective.at(theta[None], weights[None]).gradient[0])
        trial_norm = gradient_norm(objective, trial, weights)
        if not trial_norm < norm:
            break
        theta, norm = trial, trial_norm
    return theta


def _stationary(objective: Objective, theta: Array, weights: Array) -> Array:
    """θ itself, or ConvergenceError where its gradient is above rounding."""
    if not is_stationary(objective, theta, weights):
        raise ConvergenceError(
            f"no stationary point reached: gradient norm {gradient_norm(objective, theta, weights):.2e} after L-BFGS, "
            f"trust region and Newton, rounding floor {objective.gradient_rounding(theta):.1e}; a kink of σ (relu) or "
            "a nearly flat direction: use a smooth activation, a larger ridge, or rescale the inputs"
        )
    return theta


def gradient_norm(objective: Objective, theta: Array, weights: Array) -> float:
    return float(np.linalg.norm(objective.at(theta[None], weights[None]).gradient))


def is_stationary(objective: Objective, theta: Array, weights: Array) -> bool:
    return gradient_norm(objective, theta, weights) <= AT_ROUNDING * objective.gradient_rounding(theta)


def lowest_curvature(hessian: Array) -> tuple[float, Array]:
    """λ_min, less an allowance for its rounding, and its eigenvector (p,)."""
    values, vectors = eigh(hessian, subset_by_index=(0, 0), check_finite=False)
    return float(values[0]) - len(hessian) * EPS * float(np.linalg.norm(hessian)), vectors[:, 0]


def cholesky(hessian: Array) -> Solve:
    """v (…, p) ↦ H⁻¹v; raises IndefiniteHessianError with the smallest eigenvalue."""
    try:
        factor = cho_factor(hessian, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        raise IndefiniteHessianError(
            f"the Hessian is not positive definite: smallest eigenvalue {lowest_curvature(hessian)[0]:.2e}; a saddle "
            "or a flat direction, not a strict minimum: use a larger ridge or another start"
        ) from None
    return lambda v: cho_solve(factor, v.T, check_finite=False).T


@dataclass(frozen=True)
class Descent:
    """End points of B problems: θ (B, p), and whether each converged (B,)."""

    theta: Array
    converged: Array


def newton_cg(objective: Objective, start: Array, weights: Array, precondition: Solve, *, tol: float) -> Descent:
    """Batched line-search Newton–CG: every problem descends monotonically from its start (B, p).

    `precondition` applies the inverse Hessian at a neighbouring optimum. Stops where the Newton decrement in that
    metric is `tol` of its first value, or the gradient is at its rounding.
    """
    theta = start.copy()
    converged = np.zeros(len(theta), bool)
    floor = AT_ROUNDING * objective.gradient_rounding(start[0])
    active, first = np.arange(len(theta)), np.zeros(len(theta))
    for _ in range(NEWTON_STEPS):
        state = objective.at(theta[active], weights[active])
        gradient = state.gradient
        decrement = np.sqrt((gradient * precondition(gradient)).sum(-1))
        first[active] = np.maximum(first[active], decrement)
        done = (np.linalg.norm(gradient, axis=-1) <= floor) | (decrement <= tol * first[active])
        converged[active[done]] = True
        active = active[~done]
        if not active.size:
            break
        state = objective.at(theta[active], weights[active])
        forcing = np.clip(decrement[~done] / first[active], tol, 0.1)
        step = conjugate_gradients(state.hvp, -gradient[~done], precondition, forcing)
        theta[active] += _lengths(objective, state, step)[:, None] * step
    return Descent(theta, converged)


def _lengths(objective: Objective, state: State, step: Array) -> Array:
    """Step lengths (B,) of an Armijo backtracking, row by row."""
    lengths = np.ones(len(step))
    slope = (state.gradient * step).sum(-1)
    slack = EPS * state.weights.shape[-1] * np.maximum(1.0, np.abs(state.value))
    for _ in range(HALVINGS):
        trial = objective.at(state.theta + lengths[:, None] * step, state.weights).value
        short = ~(trial <= state.value + SUFFICIENT_DECREASE * lengths * slope + slack)
        if not short.any():
            break
        lengths[short] /= 2
    return lengths


def conjugate_gradients(hvp: Solve, target: Array, precondition: Solve, forcing: Array) -> Array:
    """Preconditioned CG for H_b x_b = target_b, all b at once; x (B, p).

    A row stops when its residual has fallen to `forcing` (B,) of the first, or at the last point before negative
    curvature (the preconditioned target itself if that is met at once).
    """
    x, residual = np.zeros_like(target), target.copy()
    direction = precondition(residual)
    square = (residual * direction).sum(-1)
    goal = forcing**2 * square
    going = square > 0
    for k in range(CG_STEPS):
        product = hvp(direction)
        curvature = (direction * product).sum(-1)
        bad = going & ~(curvature > 0)
        if k == 0:
            x[bad] = direction[bad]
        going &= ~bad
        if not going.any():
            break
        length = np.where(going, square / np.where(going, curvature, 1.0), 0.0)[:, None]
        x += length * direction
        residual -= length * product
        preconditioned = precondition(residual)
        new = (residual * preconditioned).sum(-1)
        going &= new > goal
        direction = preconditioned + (new / np.where(square > 0, square, 1.0))[:, None] * direction
        square = new
    return x
