"""Newton's method for F(θ) = Σ w_i ℓ_i(o_i + φ_iᵀθ) + ½ Σ λ_j θ_j², and the proof when no minimiser exists."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array
from scipy.linalg import solve_triangular

from trak_theory.losses import Loss
from trak_theory.numerics.whitening import EPS, RankDeficientError, hessian_factor

MAX_STEPS = 100
MAX_HALVINGS = 40
SUFFICIENT_DECREASE = 1e-4
SEPARATION = 1e-7  # a gain of the linear programme below this share of the largest entry is its tolerance


class NoMinimiserError(ValueError):
    """The objective has no minimiser (separable data without a ridge)."""


class ConvergenceError(RuntimeError):
    """Newton's method stopped short of the tolerance; the message carries the numbers."""


@dataclass(frozen=True)
class Objective:
    """F in given coordinates. features (n, m), ridge (m,), weights (n,), offset o (n,) or 0."""

    loss: Loss
    features: Array
    targets: Array
    weights: Array
    ridge: Array
    offset: Array | float = 0.0

    def outputs(self, theta: Array) -> Array:
        """f_i = o_i + φ_iᵀθ (n,)."""
        return self.offset + self.features @ theta

    def value(self, theta: Array) -> float:
        with np.errstate(over="ignore", invalid="ignore"):  # inf is the value, far out
            losses = self.loss.value(self.targets, self.outputs(theta))
            total = self.weights @ np.where(self.weights > 0, losses, 0.0) + 0.5 * self.ridge @ theta**2
        return float(total)

    def residual(self, outputs: Array) -> Array:
        return self.weights * self.loss.residual(self.targets, outputs)

    def curvature(self, outputs: Array) -> Array:
        return self.weights * self.loss.curvature(self.targets, outputs)

    def gradient(self, theta: Array) -> Array:
        return self.features.T @ self.residual(self.outputs(theta)) + self.ridge * theta

    def factor(self, theta: Array) -> Array:
        """Upper triangular R with RᵀR = ∇²F(θ)."""
        return hessian_factor(self.features, self.curvature(self.outputs(theta)), self.ridge)

    def decrement_rounding(self, theta: Array, factor: Array) -> float:
        """An allowance for what rounding of the gradient alone adds to ‖∇F‖_{H⁻¹}.

        Eight units in the last place of the root sum of squares of all its terms.
        """
        squares = self.features.T**2 @ self.residual(self.outputs(theta)) ** 2 + (self.ridge * theta) ** 2
        inverse = solve_triangular(factor, np.eye(len(factor)), trans="T", check_finite=False)
        return 8 * EPS * float(np.sqrt((inverse**2 @ squares).sum()))


@dataclass(frozen=True)
class Minimum:
    """A point with its certificate: decrement = ‖∇F‖ in the norm of H⁻¹, the length of the Newton step left."""

    theta: Array
    factor: Array
    decrement: float


def minimise(objective: Objective, start: Array, *, tol: float) -> Minimum:
    """Damped Newton until no output can move by more than `tol` · max(1, max|f|), or to the rounding floor.

    Raises NoMinimiserError with the reason, RankDeficientError, or ConvergenceError with the numbers.
    """
    try:
        return _newton(objective, start, tol)
    except (RankDeficientError, ConvergenceError):
        _raise_if_separable(objective)
        raise


def _newton(objective: Objective, start: Array, tol: float) -> Minimum:
    theta, smallest, stalled = start, np.inf, 0
    for _ in range(MAX_STEPS):
        gradient, factor = objective.gradient(theta), objective.factor(theta)
        whitened = solve_triangular(factor, gradient, trans="T", check_finite=False)
        decrement = float(np.linalg.norm(whitened))
        step = -solve_triangular(factor, whitened, check_finite=False)
        outputs, change = objective.outputs(theta), objective.features @ step
        scale = max(1.0, float(np.abs(outputs).max()))
        left = float(np.abs(change).max()) / scale
        stalled = stalled + 1 if decrement > 0.5 * smallest else 0
        if left <= tol and (stalled or decrement <= EPS * scale):
            return Minimum(theta, factor, decrement)
        # Towards infinity the decrement vanishes too, but the outputs never stop moving.
        if left <= np.sqrt(tol) and stalled >= 2 and decrement <= objective.decrement_rounding(theta, factor):
            return Minimum(theta, factor, decrement)
        smallest = min(smallest, decrement)
        theta = _line_search(objective, theta, step, decrement)
    raise ConvergenceError(
        f"Newton's method did not reach tol = {tol:g} in {MAX_STEPS} steps: decrement {decrement:.2e}, largest "
        f"output {scale:.3g}, gradient norm {np.linalg.norm(gradient):.2e}; add a ridge or rescale the features"
    )


def _line_search(objective: Objective, theta: Array, step: Array, decrement: float) -> Array:
    value, length = objective.value(theta), 1.0
    slack = EPS * len(objective.targets) * max(1.0, abs(value))
    for _ in range(MAX_HALVINGS):
        trial = objective.value(theta + length * step)
        if trial <= value - SUFFICIENT_DECREASE * length * decrement**2 + slack:
            break
        length /= 2
    return theta + length * step


def _raise_if_separable(objective: Objective) -> None:
    direction = separating_direction(objective)
    if direction is None:
        return
    moved = np.abs(objective.features @ direction)
    raise NoMinimiserError(
        f"no minimiser exists: along an unpenalised direction the {objective.loss.name} loss of "
        f"{np.sum(moved > SEPARATION * moved.max())} of {moved.size} points falls for ever and no other rises "
        "(separable data); add a ridge to those coefficients"
    )


def separating_direction(objective: Objective) -> Array | None:
    """A direction of recession: F never rises along it, and some loss falls for ever. None if there is none.

    Exists iff some v in the null space of the ridge has φ_iᵀv ≤ 0 where ℓ′(+∞) > 0, φ_iᵀv ≥ 0 where ℓ′(−∞) < 0,
    and Φv ≠ 0: a linear programme.
    """
    from scipy.optimize import linprog

    free = objective.ridge == 0
    used = objective.weights > 0
    low, high = objective.loss.asymptotic_slopes(objective.targets)
    rises, falls = (high > 0)[used], (low < 0)[used]
    if not free.any() or np.all(rises & falls):
        return None
    columns = objective.features[np.ix_(used, free)]
    gain = np.where(rises, 0.0, 1.0)[:, None] * columns - np.where(falls, 0.0, 1.0)[:, None] * columns
    limits = np.vstack([columns[rises], -columns[falls]])
    solution = linprog(-gain.sum(0), A_ub=limits, b_ub=np.zeros(len(limits)), bounds=(-1, 1), method="highs")
    if solution.fun is None or -solution.fun <= SEPARATION * np.abs(columns).max():
        return None
    direction = np.zeros(free.size)
    direction[free] = solution.x
    return direction
