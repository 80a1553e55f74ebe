"""All n leave-one-out problems of a fit at once, in the coordinates that whiten its Hessian.

With H = RᵀR, a_i = R⁻ᵀφ_i and θ = θ̂ + R⁻¹u, the gradient of the objective without i is

    g_i(u) = u − (r_i + d_i s_i) a_i + Σ_{j≠i} ρ_j(s_j) a_j,     s = Au,     ρ_j(s) = ℓ′_j(f_j+s) − r_j − d_j s.

The gradient that the fit itself still has is not in it but in the rounding allowance. The chord iteration solves with
the down-dated Hessian M_i = I − d_i a_i a_iᵀ at θ̂; its first iterate from u = 0 is the Newton point r_i a_i/(1 − h_i).
Rows are left-out points throughout, so that one evaluation of b problems is two products, (b, m) × (m, n) and
(b, n) × (n, m).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy import ndarray as Array

from trak_theory.glm.model import Fit
from trak_theory.losses import Remainder
from trak_theory.numerics.whitening import EPS, whiten


@dataclass(frozen=True)
class LeaveOneOutProblems:
    """rows A (n, m); residual r, curvature d, remaining 1 − h (n,); remainder ρ."""

    rows: Array
    residual: Array
    curvature: Array
    remaining: Array
    remainder: Remainder

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
        arrays = {name: getattr(self, name).astype(dtype) for name in ("rows", "residual", "curvature", "remaining")}
        return replace(self, **arrays)

    def changes(self, left_out: Array, points: Array) -> tuple[Array, Array]:
        """The changes of all outputs s = uAᵀ (b, n) at `points` (b, m), split as `set_apart` does."""
        return self.set_apart(left_out, points @ self.rows.T)

    def set_apart(self, left_out: Array, change: Array) -> tuple[Array, Array]:
        """s (b, n), in place, with 0 at the left-out points, which thereby have ρ_i = 0; and their own s_i (b,)."""
        own = change[np.arange(left_out.size), left_out]
        change[np.arange(left_out.size), left_out] = 0.0
        return change, own

    def gradient(self, left_out: Array, points: Array, change: Array, own: Array) -> tuple[Array, Array]:
        """g (b, m) and ρ (b, n) at `points` (b, m) with changes (b, n), consumed, and own changes (b,)."""
        remainder = self.remainder(change)
        gradient = remainder @ self.rows
        gradient += points
        gradient -= (self.residual[left_out] + self.curvature[left_out] * own)[:, None] * self.rows[left_out]
        return gradient, remainder

    def solve(self, left_out: Array, vectors: Array) -> tuple[Array, Array]:
        """M⁻¹v (b, m) and ‖v‖_{M⁻¹} (b,): M⁻¹ = I + d a aᵀ/(1 − h)."""
        rows, weight = self.rows[left_out], self.curvature[left_out] / self.remaining[left_out]
        along = np.einsum("bm,bm->b", rows, vectors)
        norm = np.sqrt(np.einsum("bm,bm->b", vectors, vectors) + weight * along**2)
        return vectors + (weight * along)[:, None] * rows, norm


def leave_one_out_problems(fit: Fit) -> LeaveOneOutProblems:
    """The problems of a fit: one triangular solve with the factor of its Hessian.

    A point of weight 0 is part of none: its row is 0, wherever its output may be.
    """
    used = fit.glm.weights > 0
    rows, outputs = whiten(fit.minimum.factor, fit.space.features), np.where(used, fit.outputs, 0.0)
    rows[~used] = 0.0
    return LeaveOneOutProblems(
        rows,
        fit.residual,
        fit.curvature,
        1 - fit.curvature * np.einsum("im,im->i", rows, rows),
        fit.glm.loss.taylor_remainder(fit.glm.targets, outputs, fit.glm.weights),
    )
