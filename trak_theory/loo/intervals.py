"""Certified intervals for leave-one-out influence, at the price of one pair of matrix products."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy import ndarray as Array

from trak_theory.glm.model import Fit
from trak_theory.loo.bounds import chord_radius, newton_certificate, strong_convexity_radius
from trak_theory.loo.certificates import SelfConcordant, StrongConvexity
from trak_theory.loo.evaluation import Evaluation, Evaluator
from trak_theory.loo.problems import leave_one_out_problems
from trak_theory.loo.rounding import whitening_error, working_precision
from trak_theory.numerics.checks import query_array
from trak_theory.numerics.whitening import whiten

BLOCK = 256


@dataclass(frozen=True, eq=False)
class Interval:
    """center ± radius, both (n, q): the quantity named by the function that made it lies inside, entry by entry.

    unresolved: row → the premise that fails there; its radius is infinite.
    """

    center: Array
    radius: Array
    unresolved: dict[int, str] = field(default_factory=dict)

    def contains(self, values: Any) -> Array:
        """Whether each of `values` (n, q) lies inside; an infinite interval contains everything."""
        with np.errstate(invalid="ignore"):
            return ~(np.abs(np.asarray(values, float) - self.center) > self.radius)


def newton_interval(fit: Fit, queries: Any, *, chord_steps: int = 0) -> Interval:
    """Certified intervals for the exact leave-one-out influence, presence sign, of all n points on queries (q, p).

    Starts at the Newton points and takes `chord_steps` chord steps, with one pair of products (n, m) × (m, n),
    m = min(n, p), for each of the chord_steps + 1 evaluations. An evaluation certifies the point where it was made
    and, by `chord_radius`, the next one: the center is whichever has the smallest radius.

    Radii hold for the exact minimisers in exact arithmetic: they include the fit's own gradient and an allowance for
    rounding. A row whose premise fails has an infinite radius and a reason in `unresolved`. A loss without M₃ gets
    the strong-convexity radius, void with an unpenalised coefficient.
    """
    if chord_steps < 0:
        raise ValueError(f"chord_steps must be ≥ 0, got {chord_steps}")
    queries = query_array(queries, fit.glm.features.shape[1])
    problems = leave_one_out_problems(fit)
    evaluator = Evaluator(fit, problems, working_precision(fit, problems))
    kind = _StrongConvexity if evaluator.self_concordance is None else _SelfConcordant
    certificate = kind(evaluator)

    n, m = problems.rows.shape
    points, distance = np.full((n, m), np.nan), np.full(n, np.inf)
    usable = np.flatnonzero(evaluator.usable)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # a runaway row keeps its infinite radius
        for block in np.split(usable, range(BLOCK, usable.size, BLOCK)):
            points[block], distance[block] = _follow(certificate, block, chord_steps)

    whitened = whiten(fit.minimum.factor, fit.space.pull(queries))
    error = whitening_error(fit.space, fit.minimum.factor, queries, whitened)
    lengths, own = certificate.lengths(fit.space.pull(queries), whitened, error)
    with np.errstate(invalid="ignore"):
        radius = lengths * distance[:, None] + own + np.linalg.norm(points, axis=1)[:, None] * error
    radius[np.isnan(radius)] = np.inf
    void = {int(i): certificate.reason(int(i)) for i in np.flatnonzero(np.isinf(radius).any(1))}
    return Interval(-points @ whitened.T, radius, void)


def _follow(certificate: _Certificate, block: Array, chord_steps: int) -> tuple[Array, Array]:
    """The points (b, m) of smallest certified distance, and that distance (b,)."""
    best, distance = certificate.evaluator.problems.newton_points(block), np.full(block.size, np.inf)
    for evaluation in certificate.evaluator.along_the_chord(block, chord_steps + 1):
        for points, bound in certificate.near(block, evaluation):
            better = bound < distance
            best, distance = np.where(better[:, None], points, best), np.where(better, bound, distance)
    return best, distance


@dataclass(frozen=True, eq=False)
class _Certificate(ABC):
    void: ClassVar[str]
    evaluator: Evaluator

    @abstractmethod
    def near(self, block: Array, evaluation: Evaluation) -> list[tuple[Array, Array]]:
        """Points (b, m) with their certified distances (b,) to the minimisers."""

    @abstractmethod
    def lengths(self, queries: Array, whitened: Array, error: Array) -> tuple[Array, Array]:
        """Dual norm (n, q) of each query for those distances; how far the fit itself may be from its optimum (q,)."""

    def reason(self, i: int) -> str:
        """Why row i has an infinite radius."""
        if self.evaluator.usable[i]:
            return self.void
        return (
            f"leverage {1 - self.evaluator.problems.remaining[i]:.9g} is 1 to working precision "
            f"(relative error {self.evaluator.precision.relative:.1e}): nothing is left without the point"
        )


class _SelfConcordant(_Certificate):
    """The Newton certificate in the norm of M_i = H_{−i}(θ̂), at the point and after one more chord step."""

    void = SelfConcordant.void

    def near(self, block: Array, evaluation: Evaluation) -> list[tuple[Array, Array]]:
        m3, doubt = self.evaluator.fit.glm.loss.self_concordance or 0.0, self.evaluator.doubt[block]
        sure = np.sqrt(1 - doubt)
        rounding = evaluation.rounding / np.sqrt(self.evaluator.problems.remaining[block])
        here = newton_certificate((evaluation.decrement + rounding) / sure, evaluation.reach, evaluation.drift, m3)
        inexact = (rounding + doubt * evaluation.decrement) / sure
        after = chord_radius(here, evaluation.spread / (m3 or 1.0), evaluation.reach, m3) + inexact
        return [(evaluation.points, here), (evaluation.points + evaluation.step, after)]

    def lengths(self, queries: Array, whitened: Array, error: Array) -> tuple[Array, Array]:
        evaluator, problems = self.evaluator, self.evaluator.problems
        square = np.einsum("qm,qm->q", whitened, whitened)
        with np.errstate(divide="ignore", invalid="ignore"):
            weight = problems.curvature / evaluator.problems.remaining
            lengths = np.sqrt(square + weight[:, None] * (problems.rows @ whitened.T) ** 2)
            lengths += error / np.sqrt(evaluator.problems.remaining)[:, None]
            lengths /= np.sqrt(1 - evaluator.doubt)[:, None]
        left = evaluator.precision.gradient / (1 - evaluator.precision.relative)
        reach = np.sqrt(problems.square_lengths.max())
        own = newton_certificate(left, reach, 1.0, evaluator.fit.glm.loss.self_concordance or 0.0)
        return lengths, (np.sqrt(square) + error) * own


class _StrongConvexity(_Certificate):
    """‖∇F_{−i}‖₂ / min λ, in the plain norm of the coordinates."""

    void = StrongConvexity.void

    def near(self, block: Array, evaluation: Evaluation) -> list[tuple[Array, Array]]:
        return [(evaluation.points, self._distance(evaluation.gradient, evaluation.rounding))]

    def lengths(self, queries: Array, whitened: Array, error: Array) -> tuple[Array, Array]:
        length, evaluator, problems = np.linalg.norm(queries, axis=1), self.evaluator, self.evaluator.problems
        own = self._distance(np.zeros(problems.rows.shape[1]), evaluator.precision.gradient)
        return np.broadcast_to(length, (len(problems.rows), length.size)), length * own

    def _distance(self, gradient: Array, rounding: Any) -> Array:
        factor = self.evaluator.fit.minimum.factor
        left = np.linalg.norm(gradient @ factor, axis=-1) + rounding * np.linalg.norm(factor)
        return strong_convexity_radius(left, float(self.evaluator.fit.space.ridge.min()))
