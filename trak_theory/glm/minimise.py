"""Newton's method for F(θ) = Σ w_i ℓ_i(o_i + φ_iᵀθ) + ½ Σ λ_j θ_j², and the proof when no minimiser exists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array
from scipy.linalg import solve_triangular

from trak_theory.errors import ConvergenceError, NoMinimiserError, RankDeficientError
from trak_theory.losses import Loss
from trak_theory.numerics.whitening import EPS, extended_product, hessian_factor

MAX_STEPS = 100
MAX_HALVINGS = 120  # a pseudo-Huber loss far from its targets wants steps 1e-24 times Newton's
OVERSHOT = 0.1  # of the slope at the start of a step
SEPARATION = 1e-7  # a gain of the linear programme below this share of the largest entry is its tolerance


@dataclass(frozen=True)
class Objective:
    """F in given coordinates. features (n, m), ridge (m,), weights (n,), offset o (n,) or 0."""

    loss: Loss
    features: Array
    targets: Array
    weights: Array
    ridge: Array
    offset: Array | float = 0.0

    def value(self, theta: Array) -> float:
        with np.errstate(over="ignore", invalid="ignore"):  # inf is the value, far out
            losses = self.loss.value(self.targets, self.offset + self.features @ theta)
            total = self.weights @ np.where(self.weights > 0, losses, 0.0) + 0.5 * self.ridge @ theta**2
        return float(total)

    def residual(self, outputs: Array) -> Array:
        return self._weighted(self.loss.residual, outputs)

    def curvature(self, outputs: Array) -> Array:
        return self._weighted(self.loss.curvature, outputs)

    def _weighted(self, derivative: Callable[[Array, Array], Array], outputs: Array) -> Array:
        """w times a derivative of ℓ; 0 for a point of weight 0, however far its output has run away."""
        with np.errstate(over="ignore", invalid="ignore"):
            return np.where(self.weights > 0, self.weights * derivative(self.targets, outputs), 0.0)

    def at(self, theta: Array) -> Point:
        """Outputs and gradient at θ, both summed in extended precision."""
        with np.errstate(over="ignore", invalid="ignore"):  # inf or NaN is the gradient, far out
            outputs = (self.offset + extended_product(self.features, theta)).astype(float)
            gradient = extended_product(self.features.T, self.residual(outputs))
            return Point(theta, outputs, (gradient + self.ridge * theta.astype(np.longdouble)).astype(float))

    def factor(self, outputs: Array) -> Array:
        """Upper triangular R with RᵀR = ∇²F."""
        return hessian_factor(self.features, self.curvature(outputs), self.ridge)

    def decrement_rounding(self, point: Point, factor: Array) -> float:
        """Rounding error of ‖∇F‖_{H⁻¹}.

        ‖R δθ‖ for |δθ| ≤ ε|θ|, and eight units in the last place of the root sum of squares of the gradient's terms.
        """
        squares = self.features.T**2 @ self.residual(point.outputs) ** 2 + (self.ridge * point.theta) ** 2
        inverse = solve_triangular(factor, np.eye(len(factor)), trans="T", check_finite=False)
        resolution = EPS * np.linalg.norm(np.abs(factor) @ np.abs(point.theta))
        return float(8 * EPS * np.sqrt((inverse**2 @ squares).sum()) + resolution)


@dataclass(frozen=True)
class Point:
    """θ (m,), outputs (n,) and gradient ∇F(θ) (m,)."""

    theta: Array
    outputs: Array
    gradient: Array


@dataclass(frozen=True)
class Minimum(Point):
    """A point with its certificate: decrement = ‖∇F‖ in the norm of H⁻¹, the length of the Newton step left."""

    factor: Array
    decrement: float

    @staticmethod
    def at(point: Point, factor: Array, decrement: float) -> Minimum:
        return Minimum(point.theta, point.outputs, point.gradient, factor, decrement)


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
    point, smallest, stalled = objective.at(start), np.inf, 0
    if not np.isfinite(point.gradient).all():
        raise ConvergenceError(
            f"the {objective.loss.name} loss overflows where Newton's method starts, at outputs up to "
            f"{np.abs(point.outputs).max():.3g}: rescale the offset"
        )
    for _ in range(MAX_STEPS):
        factor = objective.factor(point.outputs)
        whitened = solve_triangular(factor, point.gradient, trans="T", check_finite=False)
        decrement = float(np.linalg.norm(whitened))
        step = -solve_triangular(factor, whitened, check_finite=False)
        moved, size = np.abs(objective.features @ step).max(), np.abs(point.outputs).max()
        left = float(moved) / max(1.0, float(size))
        stalled = stalled + 1 if decrement > 0.5 * smallest else 0
        if left <= tol and (stalled or moved <= EPS * size):
            return Minimum.at(point, factor, decrement)
        # Towards infinity the decrement vanishes too, but the outputs never stop moving.
        if left <= np.sqrt(tol) and stalled >= 2 and decrement <= objective.decrement_rounding(point, factor):
            return Minimum.at(point, factor, decrement)
        smallest = min(smallest, decrement)
        point = _line_search(objective, point, step, decrement)
    rounding = objective.decrement_rounding(point, factor)
    raise ConvergenceError(
        f"Newton's method did not reach tol = {tol:g} in {MAX_STEPS} steps: decrement {decrement:.2e} (rounding alone "
        f"leaves {rounding:.1e}), largest output {size:.3g}, gradient norm {np.linalg.norm(point.gradient):.2e}; "
        "add a ridge, drop dependent columns or rescale the features"
    )


def _line_search(objective: Objective, point: Point, step: Array, decrement: float) -> Point:
    """The first of 1, ½, ¼, … of a step at which F no longer rises along it.

    Slopes do not cancel as values do: of a Poisson loss at large counts, values lose more than a step gains.
    """
    length = 1.0
    for _ in range(MAX_HALVINGS):
        trial = objective.at(point.theta + length * step)
        with np.errstate(over="ignore", invalid="ignore"):
            lower = np.isfinite(trial.gradient).all() and step @ trial.gradient <= OVERSHOT * decrement**2
        if lower:
            return trial
        length /= 2
    raise ConvergenceError(
        f"no step along Newton's direction lowers the objective: decrement {decrement:.2e}, largest entry of the step "
        f"{np.abs(step).max():.2e}; a derivative of the loss overflows there: rescale the features, weights or targets"
    )


def _raise_if_separable(objective: Objective) -> None:
    direction = separating_direction(objective)
    if direction is None:
        return
    moved, used = np.abs(objective.features @ direction), objective.targets[objective.weights > 0]
    cause = f"all targets are {used[0]:g}" if np.all(used == used[0]) else "separable data"
    raise NoMinimiserError(
        f"no minimiser exists: along an unpenalised direction the {objective.loss.name} loss of "
        f"{np.sum(moved > SEPARATION * moved.max())} of {moved.size} points falls for ever and no other rises "
        f"({cause}); add a ridge to those coefficients"
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
