"""Certified radii from an evaluation of the leave-one-out problems, and of a fit itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy import ndarray as Array

from trak_theory.glm.model import Fit
from trak_theory.loo.bounds import chord_radius, newton_certificate, strong_convexity_radius
from trak_theory.loo.rounding import whitening_error
from trak_theory.loo.solving.evaluation import MOST_DOUBT, Evaluation, Evaluator, evaluator_of
from trak_theory.numerics.whitening import whiten


@dataclass(frozen=True, eq=False)
class Certificate(ABC):
    """Distances to the minimisers in a norm of the parameters, and what they mean for query rows.

    whitened (q, m) queries as R⁻ᵀφ*, each known to within error (q,); rotated (q,) their lengths ‖φ* ∘ scale‖
    """

    void: ClassVar[str]
    evaluator: Evaluator
    queries: Array  # (q, m) in the coordinates of the fit's space
    whitened: Array
    error: Array
    rotated: Array

    @abstractmethod
    def near(self, block: Array, evaluation: Evaluation) -> list[tuple[Array, Array]]:
        """Points (b, m) with their certified distances (b,) to the minimisers."""

    @property
    @abstractmethod
    def lengths(self) -> Array:
        """Dual norm (n, q) of each query for the distances of each problem."""

    @property
    @abstractmethod
    def own(self) -> Array:
        """|φ*ᵀ(θ̂ − θ°)| at most, from the fit to its exact minimiser (q,)."""

    @property
    def sharp(self) -> Certificate:
        """The same with sharp evaluations."""
        return replace(self, evaluator=replace(self.evaluator, sharp=True))

    @property
    def exists(self) -> bool:
        """True if any point could be certified."""
        return True

    def influence(self, points: Array) -> Array:
        return -points @ self.whitened.T

    def radius(self, points: Array, distance: Array) -> Array:
        """Certified half-width (n, q) of the influence at `points` (n, m) within `distance` (n,) of the minimisers."""
        with np.errstate(invalid="ignore", over="ignore"):
            radius = self.lengths * distance[:, None] + self.own + np.linalg.norm(points, axis=1)[:, None] * self.error
            radius += np.outer(self.evaluator.beside(points), self.rotated)
        return np.where(np.isnan(radius), np.inf, radius)

    def goal(self, tol: float) -> Array:
        """The distance (n,) at which every query's radius is within tol · (its rms Newton influence)."""
        problems, usable = self.evaluator.problems, self.evaluator.usable
        if not usable.any():
            return np.zeros(usable.size)
        scale = problems.residual[usable] / problems.remaining[usable]
        newton = scale[:, None] * (problems.rows[usable] @ self.whitened.T)
        rms = np.sqrt(np.mean(newton**2, axis=0))
        seen = rms > 0
        return tol * np.min(rms[seen] / self.lengths[:, seen], axis=1, initial=np.inf)

    def reason(self, i: int) -> str:
        """Why row i has an infinite radius."""
        if self.evaluator.usable[i]:
            return self.void
        return (
            f"leverage {1 - self.evaluator.problems.remaining[i]:.9g} is 1 to working precision "
            f"(relative error {self.evaluator.precision.relative:.1e}): nothing is left without the point"
        )

    @property
    def reason_for_the_fit(self) -> str:
        """Why the fit itself has no certified distance from its optimum."""
        if self.evaluator.doubt_of_the_fit < MOST_DOUBT:
            return self.void
        return (
            f"its coefficients are determined to a relative {self.evaluator.precision.relative:.1e} only: "
            "drop dependent columns or add a ridge"
        )


class SelfConcordant(Certificate):
    """The Newton certificate in the norm of M_i = H_{−i}(θ̂), at the point and after one more chord step."""

    void = "the premise of the Newton certificate fails"

    @property
    def self_concordance(self) -> float:
        return self.evaluator.self_concordance or 0.0

    def near(self, block: Array, evaluation: Evaluation) -> list[tuple[Array, Array]]:
        m3, doubt = self.self_concordance, self.evaluator.doubt[block]
        sure = np.sqrt(1 - doubt)
        rounding = evaluation.rounding / np.sqrt(self.evaluator.problems.remaining[block])
        here = newton_certificate(
            (evaluation.decrement + rounding) / sure, evaluation.dual_norm, evaluation.curvature_ratio, m3
        )
        inexact = (rounding + doubt * evaluation.decrement) / sure
        after = chord_radius(here, evaluation.spread / (m3 or 1.0), evaluation.dual_norm, m3) + inexact
        return [(evaluation.points, here), (evaluation.points + evaluation.step, after)]

    @cached_property
    def lengths(self) -> Array:
        evaluator, problems = self.evaluator, self.evaluator.problems
        square = np.einsum("qm,qm->q", self.whitened, self.whitened)
        with np.errstate(divide="ignore", invalid="ignore"):
            weight = problems.curvature / problems.remaining
            lengths = np.sqrt(square + weight[:, None] * (problems.rows @ self.whitened.T) ** 2)
            lengths += self.error / np.sqrt(problems.remaining)[:, None]
            return lengths / np.sqrt(1 - evaluator.doubt)[:, None]

    @cached_property
    def own(self) -> Array:
        doubt = self.evaluator.doubt_of_the_fit
        if doubt >= MOST_DOUBT:
            return np.full(len(self.queries), np.inf)
        sure = np.sqrt(1 - doubt)
        left, dual_norm = self.evaluator.precision.gradient / sure, self.evaluator.lengths.max() / sure
        distance = newton_certificate(left, dual_norm, 1.0, self.self_concordance)
        length = (np.linalg.norm(self.whitened, axis=1) + self.error) / sure
        return length * distance if np.isfinite(distance) else np.full(length.shape, np.inf)


class StrongConvexity(Certificate):
    """For losses without M₃: ‖∇F_{−i}‖₂ / min λ, in the plain norm of the parameters."""

    void = "the loss declares no self-concordance and some coefficient has no ridge: no certificate exists"

    @property
    def sharp(self) -> Certificate:
        """The same with sharp evaluations."""
        return replace(self, evaluator=replace(self.evaluator, sharp=True))

    @property
    def exists(self) -> bool:
        return bool(self.evaluator.fit.space.ridge.min() > 0)

    def near(self, block: Array, evaluation: Evaluation) -> list[tuple[Array, Array]]:
        return [(evaluation.points, self._distance(evaluation.gradient, evaluation.rounding))]

    @cached_property
    def lengths(self) -> Array:
        length = np.linalg.norm(self.queries, axis=1)
        return np.broadcast_to(length, (len(self.evaluator.problems.rows), length.size))

    @cached_property
    def own(self) -> Array:
        distance = self._distance(np.zeros(self.queries.shape[1]), self.evaluator.precision.gradient)
        length = np.linalg.norm(self.queries, axis=1)
        return length * distance if np.isfinite(distance) else np.full(length.shape, np.inf)

    def _distance(self, gradient: Array, rounding: Array | float) -> Array:
        factor = self.evaluator.fit.minimum.factor
        left = np.linalg.norm(gradient @ factor, axis=-1) + rounding * np.linalg.norm(factor)
        return strong_convexity_radius(left, float(self.evaluator.fit.space.ridge.min()))


def certificate_for(fit: Fit, queries: Array, *, sharp: bool) -> Certificate:
    """The certificate that the loss of `fit` allows; queries (q, p)."""
    evaluator, pulled = evaluator_of(fit, sharp=sharp), fit.space.pull(queries)
    whitened = whiten(fit.minimum.factor, pulled)
    error = whitening_error(fit.space, fit.minimum.factor, queries, whitened)
    kind = StrongConvexity if evaluator.self_concordance is None else SelfConcordant
    rotated = np.linalg.norm(queries * fit.space.scale, axis=1)
    return kind(evaluator, pulled, whitened, error, rotated)
