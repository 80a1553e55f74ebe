"""The leave-one-out problems evaluated near their minimisers, with everything that a certificate asks for.

One evaluation of b problems is two products, s = uAᵀ and Σρ_ja_j; see `problems` for the gradient. How far curvatures
have moved is bounded by the largest |s_j|, at no cost, or `sharp`: from each curvature, and with the lengths
‖φ_j‖_{M⁻¹} from a Gram matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy import ndarray as Array

from trak_theory.glm.model import Fit
from trak_theory.loo.bounds import largest_of_others
from trak_theory.loo.rounding import WorkingPrecision, working_precision
from trak_theory.loo.solving.problems import LeaveOneOutProblems, leave_one_out_problems
from trak_theory.numerics.whitening import EPS

MOST_DOUBT = 0.5
BLOCK = 256  # problems looked at together


@dataclass(frozen=True)
class Evaluation:
    """Gradients, decrements and rounding of b problems at points u (b, m), from one pair of products."""

    points: Array
    gradient: Array  # g (b, m)
    step: Array  # −M⁻¹g (b, m)
    decrement: Array  # ‖g‖_{M⁻¹} (b,)
    dual_norm: Array  # ≥ max_{j≠i} ‖φ_j‖_{M⁻¹} (b,)
    curvature_ratio: Array  # ≥ max_{j≠i} d_j(θ̂)/d_j(u), at least 1 (b,)
    spread: Array  # ≥ max_{j≠i} |log d_j(θ̂)/d_j(u)| (b,)
    rounding: Array  # bound on the error of g in the plain norm (b,)


@dataclass(frozen=True, eq=False)
class Evaluator:
    """The problems of a fit and the precision they are known to."""

    fit: Fit
    problems: LeaveOneOutProblems
    precision: WorkingPrecision
    sharp: bool

    @property
    def self_concordance(self) -> float | None:
        return self.fit.glm.loss.self_concordance

    @property
    def doubt_of_the_fit(self) -> float:
        """ω: H ⪰ (1 − ω) times the computed one."""
        return 4 * self.precision.relative

    @cached_property
    def doubt(self) -> Array:
        """ω_i (n,): M_i ⪰ (1 − ω_i) times the computed one."""
        with np.errstate(divide="ignore"):
            return self.doubt_of_the_fit / np.maximum(self.problems.remaining, 0)

    @cached_property
    def usable(self) -> Array:
        return self.problems.removable & (self.doubt < MOST_DOUBT)

    @cached_property
    def lengths(self) -> Array:
        """‖a_j‖ at most (n,)."""
        return np.sqrt(self.problems.square_lengths) + self.precision.rows

    def dual_norms(self, block: Array) -> tuple[Array, Array | None]:
        """max_{j≠i} ‖φ_j‖_{M⁻¹} (b,); if sharp, with the changes of all outputs at the Newton points (b, n)."""
        remaining = self.problems.remaining[block]
        if not self.sharp:
            return largest_of_others(self.lengths)[block] / np.sqrt(remaining * (1 - self.doubt[block])), None
        gram = self.problems.rows[block] @ self.problems.rows.T
        square = gram**2
        square *= (self.problems.curvature[block] / remaining)[:, None]
        square += self.lengths**2
        square[np.arange(block.size), block] = 0.0
        gram *= (self.problems.residual[block] / remaining)[:, None]
        return np.sqrt(square.max(1) / (1 - self.doubt[block])), gram

    def evaluate(self, block: Array, points: Array, dual_norm: Array, change: Array | None = None) -> Evaluation:
        """At `points` (b, m), with `dual_norm` (b,); `change` = points Aᵀ (b, n), if it is at hand, is consumed."""
        problems = self.problems
        change, own = problems.changes(block, points) if change is None else problems.set_apart(block, change)
        size = np.linalg.norm(points, axis=1)
        curvature_ratio, spread, stiffening = self._curvatures(change, size * self.precision.rows.max())
        gradient, remainder = problems.gradient(block, points, change, own)
        step, decrement = problems.solve(block, gradient)
        pull = np.sqrt(np.einsum("bn,bn->b", remainder, remainder))
        stiffening = self._stiffening(size, pull) if stiffening is None else stiffening
        rounding = self._rounding(block, size, own, pull) + size * stiffening
        return Evaluation(points, gradient, -step, decrement, dual_norm, curvature_ratio, spread, rounding)

    def beside(self, points: Array) -> Array:
        """How far the minimisers leave the computed span of the rows, Σ_j |Δr_j| ‖E_j‖ (b,): see `rotation_error`.

        Δr_j = d_j s_j + ρ_j(s_j) at `points` (b, m) of all problems, −r_j of a point that is left out.
        """
        rotation = self.precision.rotation
        if not rotation.any():
            return np.zeros(len(points))
        found = self._of_the_left_out(np.abs(self.fit.residual) * rotation)
        for block in np.split(np.arange(len(points)), range(BLOCK, len(points), BLOCK)):
            change, _ = self.problems.changes(block, points[block])
            moved = self.fit.curvature * change
            found[block] += np.abs(moved + self.problems.remainder(change)) @ rotation
        return found

    def _of_the_left_out(self, values: Array) -> Array:
        """What is known of every point (n,), of what is left out of each problem (b,)."""
        return values.copy()

    def _curvatures(self, change: Array, error: Array) -> tuple[Array, Array, Array | None]:
        """Curvature ratio, spread, Σ_j |d_j(u) − d_j| ‖δa_j‖ ‖a_j‖ for a loss without M₃; `error` (b,) of changes."""
        m3 = self.self_concordance
        if m3 == 0:
            return np.ones(len(change)), np.zeros(len(change)), None
        limit = (m3 or 0.0) * (np.maximum(change.max(1), -change.min(1)) + error)
        if m3 is not None and not self.sharp:
            return np.exp(limit), limit, None
        moved = self.fit.objective.curvature(self.fit.outputs + change)
        if m3 is None:
            return (
                np.ones(len(change)),
                limit,
                np.abs(moved - self.fit.curvature) @ (self.precision.rows * self.lengths),
            )
        ratio = self.fit.curvature / moved  # NaN where neither weighs anything
        fall = np.log(np.fmax.reduce(ratio, axis=1, initial=1.0)) + m3 * error
        rise = m3 * error - np.log(np.fmin.reduce(ratio, axis=1, initial=1.0))
        # The limit holds where a curvature underflows.
        return np.exp(np.minimum(fall, limit)), np.minimum(np.maximum(fall, rise), limit), None

    def _stiffening(self, size: Array, pull: Array) -> Array:
        """Σ_j |d_j(u) − d_j| ‖δa_j‖ ‖a_j‖ at most, since |d_j(u) − d_j| ≤ M₃ |ρ_j + d_j s_j| (b,)."""
        squares = self.precision.rows * self.lengths
        weighted = np.sqrt(self.fit.curvature @ squares**2)
        return self.self_concordance * (pull * np.linalg.norm(squares) + size * weighted)

    def _rounding(self, block: Array, size: Array, own: Array, pull: Array) -> Array:
        """Of the two products, and of everything known only to the precision of rows, curvatures and fit.

        (ε√n + ν) ‖ρ‖ ‖A‖_F + (5ν + 4ε√m) ‖u‖ + (|r_i| + d_i|s_i|) ‖δa_i‖ + d_i ‖a_i‖ ‖δa_i‖ ‖u‖ + 2δℓ + ‖∇F(θ̂)‖
        """
        problems, precision = self.problems, self.precision
        n, m = problems.rows.shape
        errors, curvature = precision.rows[block], problems.curvature[block]
        products = (EPS * np.sqrt(n) + precision.relative) * pull * np.sqrt(problems.square_lengths.sum())
        force = np.abs(problems.residual[block]) + curvature * np.abs(own)
        moved = 5 * precision.relative + 4 * EPS * np.sqrt(m) + curvature * self.lengths[block] * errors
        return products + moved * size + force * errors + 2 * precision.losses + precision.gradient


def evaluator_of(fit: Fit, *, sharp: bool) -> Evaluator:
    """The leave-one-out problems of `fit` with their working precision."""
    problems = leave_one_out_problems(fit)
    return Evaluator(fit, problems, working_precision(fit, problems.rows), sharp)
