"""The leave-one-out problems evaluated near their minimisers, with everything that a certificate asks for.

In the whitened coordinates u = R(θ − θ̂) of `chord`, the gradient of the objective without i is

    g_i(u) = u − (r_i + d_i s_i) a_i + Σ_{j≠i} ρ_j(s_j) a_j,     s = Au,     M_i = I − d_i a_i a_iᵀ.

Where `chord` iterates and bounds by the change of the outputs, this looks at each curvature and carries the rounding
of the coordinates themselves; one evaluation of b problems is still two products, s and the sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy import ndarray as Array

from trak_theory.glm.model import Fit
from trak_theory.loo.problems import LeaveOneOutProblems
from trak_theory.loo.rounding import WorkingPrecision
from trak_theory.numerics.whitening import EPS


@dataclass(frozen=True)
class Evaluation:
    """What one pair of products says about b problems at points u (b, m)."""

    points: Array
    gradient: Array  # g (b, m)
    step: Array  # −M⁻¹g (b, m)
    decrement: Array  # ‖g‖_{M⁻¹} (b,)
    reach: Array  # max_{j≠i} ‖φ_j‖_{M⁻¹} (b,)
    drift: Array  # max_{j≠i} d_j(θ̂)/d_j(u), at least 1 (b,)
    spread: Array  # max_{j≠i} |log d_j(θ̂)/d_j(u)| (b,)
    rounding: Array  # bound on the error of g in the plain norm (b,)


@dataclass(frozen=True, eq=False)
class Evaluator:
    """The problems of a fit and the precision they are known to."""

    fit: Fit
    problems: LeaveOneOutProblems
    precision: WorkingPrecision

    @property
    def self_concordance(self) -> float | None:
        return self.fit.glm.loss.self_concordance

    @cached_property
    def doubt(self) -> Array:
        """ω (n,): M_i ⪰ (1 − ω_i) times the computed one."""
        with np.errstate(divide="ignore"):
            return 4 * self.precision.relative / np.maximum(self.problems.remaining, 0)

    @cached_property
    def usable(self) -> Array:
        return self.problems.removable & (self.doubt < 0.5)

    def along_the_chord(self, block: Array, count: int) -> Iterator[Evaluation]:
        """The problems `block` at their Newton points and after each of count − 1 chord steps."""
        gram = self.problems.rows[block] @ self.problems.rows.T
        reach = self._reach(block, gram)
        scale = self.problems.residual[block] / self.problems.remaining[block]
        evaluation = self._evaluate(block, scale[:, None] * self.problems.rows[block], scale[:, None] * gram, reach)
        yield evaluation
        for _ in range(count - 1):
            points = evaluation.points + evaluation.step
            evaluation = self._evaluate(block, points, points @ self.problems.rows.T, reach)
            yield evaluation

    def _reach(self, block: Array, gram: Array) -> Array:
        weight = self.problems.curvature[block] / self.problems.remaining[block]
        square = (self.problems.square_lengths + weight[:, None] * gram**2) * (self.fit.glm.weights > 0)
        square[np.arange(block.size), block] = 0.0
        return np.sqrt(square.max(1) / (1 - self.doubt[block]))

    def _evaluate(self, block: Array, points: Array, change: Array, reach: Array) -> Evaluation:
        """At `points` (b, m) with change s = points Aᵀ (b, n), consumed."""
        problems, rows = self.problems, self.problems.rows[block]
        change[np.arange(block.size), block] = 0.0  # ρ_i = 0: the point is gone
        drift, spread = self._drift(change)
        remainder = problems.remainder(change)
        own = problems.residual[block] + problems.curvature[block] * np.einsum("bm,bm->b", rows, points)
        gradient = points - own[:, None] * rows + remainder @ problems.rows
        inner = np.einsum("bm,bm->b", rows, gradient)
        weight = problems.curvature[block] / problems.remaining[block]
        return Evaluation(
            points,
            gradient,
            -gradient - (weight * inner)[:, None] * rows,
            np.sqrt(np.einsum("bm,bm->b", gradient, gradient) + weight * inner**2),
            reach,
            drift,
            spread,
            self._rounding(block, points, remainder, spread),
        )

    def _drift(self, change: Array) -> tuple[Array, Array]:
        """Drift and spread from the curvatures themselves, which move by less than e^{M₃|s|}."""
        m3, glm = self.self_concordance, self.fit.glm
        if not m3:
            return np.ones(len(change)), np.zeros(len(change))
        moved = glm.weights * glm.loss.curvature(glm.targets, self.fit.outputs + change)
        ratio = self.fit.curvature / moved  # NaN where neither weighs anything
        limit = m3 * np.abs(change).max(1)  # holds where a curvature underflows
        fall = np.log(np.fmax.reduce(ratio, axis=1, initial=1.0))
        rise = -np.log(np.fmin.reduce(ratio, axis=1, initial=1.0))
        return np.exp(np.minimum(fall, limit)), np.minimum(np.maximum(fall, rise), limit)

    def _rounding(self, block: Array, points: Array, remainder: Array, spread: Array) -> Array:
        """Of the pull Σρ_ja_j, and of everything known only to the precision of rows, outputs and fit.

        δ = ε √n ‖ρ‖ ‖A‖_F + e^{spread} [ν (|r_i| ‖a_i‖ + (3 + √Σh) ‖u‖) + δĝ]: a relative error ν of the rows is one
        of s and of the pull, and (Σ_j d_j ‖a_j‖²)^½ = √Σh collects it over the points.
        """
        problems, total = self.problems, self.problems.square_lengths.sum()
        products = EPS * np.sqrt(len(problems.rows) * total * np.einsum("bn,bn->b", remainder, remainder))
        moved = (3 + np.sqrt((1 - problems.remaining).sum())) * np.linalg.norm(points, axis=1)
        pushed = np.abs(problems.residual[block]) * np.sqrt(problems.square_lengths[block])
        coordinates = self.precision.relative * (moved + pushed) + self.precision.gradient
        return products + np.exp(spread) * coordinates
