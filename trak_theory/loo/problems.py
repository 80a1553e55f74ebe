"""All n leave-one-out problems of a fit at once, in the coordinates that whiten its Hessian.

With H = RᵀR, a_i = R⁻ᵀφ_i and θ = θ̂ + R⁻¹u, the gradient of the objective without i is

    g_i(u) = u − (r_i + d_i s_i) a_i + Σ_{j≠i} ρ_j(s_j) a_j,     s = Au,     ρ_j(s) = ℓ′_j(f_j+s) − r_j − d_j s.

The gradient that the fit itself still has is not in it but in the rounding allowance. The chord iteration solves with
the down-dated Hessian M_i = I − d_i a_i a_iᵀ at θ̂; its first iterate from u = 0 is the Newton point r_i a_i/(1 − h_i).
Rows are left-out points throughout, so that one evaluation of b problems is two products, (b, m) × (m, n) and
(b, n) × (n, m).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy import ndarray as Array

from trak_theory.glm.model import Fit
from trak_theory.losses import Remainder
from trak_theory.numerics.whitening import EPS, whiten


@dataclass(frozen=True)
class Evaluation:
    """One chord step from points u: where it leads, and what certifies it. All (b,) but `step`, (b, m)."""

    step: Array  # u⁺ − u = −M⁻¹g(u)
    decrement: Array  # ‖g(u)‖_{M⁻¹} = ‖step‖_M
    change: Array  # max_{j≠i} |s_j|, the largest change of another point's output
    rounding: Array  # bound on the error of `decrement` and of `step` in the norm of M


@dataclass(frozen=True)
class LeaveOneOutProblems:
    """rows A (n, m); residual r, curvature d, remaining 1 − h (n,); remainder ρ."""

    rows: Array
    residual: Array
    curvature: Array
    remaining: Array
    remainder: Remainder
    rounding_floor: float

    @cached_property
    def square_lengths(self) -> Array:
        return np.einsum("im,im->i", self.rows, self.rows)

    @cached_property
    def removable(self) -> Array:
        """False at leverage 1 in floating point: without the point a coefficient has neither data nor ridge."""
        return self.remaining > self.rows.shape[1] * EPS

    def newton_points(self, left_out: Array) -> Array:
        return (self.residual[left_out] / self.remaining[left_out])[:, None] * self.rows[left_out]

    def astype(self, dtype: type) -> LeaveOneOutProblems:
        """The same problems with the two products in another precision."""
        return LeaveOneOutProblems(
            self.rows.astype(dtype),
            self.residual.astype(dtype),
            self.curvature.astype(dtype),
            self.remaining.astype(dtype),
            self.remainder,
            self.rounding_floor,
        )

    def chord_step(self, left_out: Array, points: Array) -> tuple[Array, Array, Array]:
        """u⁺ − u for the problems `left_out` (b,) at `points` (b, m); s (consumed) extremes and ‖ρ‖ with it."""
        change = points @ self.rows.T
        change[np.arange(left_out.size), left_out] = 0.0  # ρ_i = 0: the point is gone
        largest = np.maximum(change.max(1), -change.min(1))
        remainder = self.remainder(change)
        pull = remainder @ self.rows
        rows = self.rows[left_out]
        goal = self.residual[left_out, None] * rows - pull
        scale = self.curvature[left_out] / self.remaining[left_out]
        goal += (scale * np.einsum("bm,bm->b", rows, goal))[:, None] * rows
        return goal - points, largest, np.einsum("bn,bn->b", remainder, remainder)

    def evaluate(self, left_out: Array, points: Array) -> Evaluation:
        step, change, remainder_square = self.chord_step(left_out, points)
        return Evaluation(
            step,
            self.norm(left_out, step),
            change,
            self._rounding(left_out, points, np.sqrt(remainder_square)),
        )

    def norm(self, left_out: Array, vectors: Array) -> Array:
        """‖v‖_{M_i} = √(‖v‖² − d_i (a_iᵀv)²), row by row."""
        square = np.einsum("bm,bm->b", vectors, vectors)
        along = np.einsum("bm,bm->b", self.rows[left_out], vectors)
        return np.sqrt(np.maximum(square - self.curvature[left_out] * along**2, 4 * EPS * square))

    def gradient_at(self, left_out: Array, step: Array) -> Array:
        """g(u) = −M (u⁺ − u), from the step."""
        rows = self.rows[left_out]
        along = np.einsum("bm,bm->b", rows, step)
        return (self.curvature[left_out] * along)[:, None] * rows - step

    def _rounding(self, left_out: Array, points: Array, remainder_norm: Array) -> Array:
        """Of the two products and of ρ, in the norm of M⁻¹, which is at most 1/√(1−h) times the plain one.

        Sums of n terms are allowed √n units in the last place of the sum of absolute values.
        """
        n, m = self.rows.shape
        size = np.linalg.norm(points, axis=1)
        products = np.sqrt(n) * EPS * remainder_norm * np.sqrt(self.square_lengths.sum()) + m * EPS * size
        return (products + 4 * EPS * np.sqrt(m) * size + self.rounding_floor) / np.sqrt(self.remaining[left_out])


def leave_one_out_problems(fit: Fit) -> LeaveOneOutProblems:
    """The problems of a fit: one triangular solve with the factor of its Hessian.

    The allowance for the fit's own gradient and its rounding carries the condition of the features (ε · cond) into
    every radius; it counts for θ̂ and for the leave-one-out minimiser.
    """
    theta, factor = fit.minimum.theta, fit.minimum.factor
    rows = whiten(factor, fit.space.features)
    fit_error = 2 * fit.minimum.decrement + fit.objective.decrement_rounding(theta, factor)
    return LeaveOneOutProblems(
        rows,
        fit.residual,
        fit.curvature,
        1 - fit.curvature * np.einsum("im,im->i", rows, rows),
        fit.glm.loss.taylor_remainder(fit.glm.targets, fit.outputs, fit.glm.weights),
        fit_error + EPS * float(np.linalg.norm(fit.residual) * np.linalg.norm(rows)),
    )


class Anderson:
    """Anderson acceleration of a batch of fixed-point iterations, each row with a memory of its own."""

    DEPTH = 5
    REGULARISATION = 1e-12  # relative to the trace: the differences become parallel near the fixed point

    def __init__(self) -> None:
        self._history: list[tuple[Array, Array]] = []  # (points, steps), newest first

    def keep(self, rows: Array) -> None:
        """Go on with these rows only."""
        self._history = [(points[rows], steps[rows]) for points, steps in self._history]

    def next(self, points: Array, steps: Array) -> Array:
        """The next points (b, m), from the current ones and their fixed-point steps."""
        history, self._history = self._history, [(points, steps), *self._history[: self.DEPTH - 1]]
        if not history:
            return points + steps
        moves = np.stack([points - old for old, _ in history])
        changes = np.stack([steps - old for _, old in history])
        gram = np.einsum("abm,cbm->bac", changes, changes)
        ridge = self.REGULARISATION * np.trace(gram, axis1=1, axis2=2) + np.finfo(float).tiny
        gram = gram + ridge[:, None, None] * np.eye(len(history))
        mixing = np.linalg.solve(gram, np.einsum("abm,bm->ba", changes, steps)[..., None])[..., 0]
        return points + steps - np.einsum("ba,abm->bm", mixing.astype(points.dtype), moves + changes)
