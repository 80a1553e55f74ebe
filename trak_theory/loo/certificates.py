"""What turns one evaluation of the leave-one-out problems into certified radii."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy import ndarray as Array

from trak_theory.glm.model import Fit
from trak_theory.loo.bounds import chord_radius, largest_of_others, newton_certificate, strong_convexity_radius
from trak_theory.loo.problems import Evaluation, LeaveOneOutProblems
from trak_theory.numerics.whitening import whiten


class Certificate(Protocol):
    """Radii in a norm of the parameters; `lengths` (n, q) are the queries in its dual norm, for each problem."""

    void: ClassVar[str]

    @property
    def lengths(self) -> Array: ...

    @property
    def exists(self) -> bool:
        """Whether any point could be certified at all."""
        ...

    def bound(self, left_out: Array, points: Array, evaluation: Evaluation) -> tuple[Array, Array]:
        """Points (b, m) near the minimisers and their certified distances (b,)."""
        ...

    def goal(self, tol: float) -> Array:
        """The distance (n,) at which every query's radius is within tol · rms."""
        ...


@dataclass(frozen=True, eq=False)
class _Lengths:
    lengths: Array  # (n, q)
    rms: Array  # (q,) rms Newton influence of each query

    def goal(self, tol: float) -> Array:
        seen = self.rms > 0
        if not seen.any():
            return np.full(len(self.lengths), np.inf)
        return tol * np.min(self.rms[seen] / self.lengths[:, seen], axis=1)


@dataclass(frozen=True, eq=False)
class SelfConcordant(_Lengths):
    """The Newton certificate of `bounds`, in the norm of M_i = H_{−i}(θ̂), followed through one chord step."""

    void: ClassVar[str] = "the premise of the Newton certificate fails"
    exists: ClassVar[bool] = True
    problems: LeaveOneOutProblems
    reach: Array  # (n,) B_i ≥ max_{j≠i} ‖φ_j‖_{M_i⁻¹}
    self_concordance: float

    def bound(self, left_out: Array, points: Array, evaluation: Evaluation) -> tuple[Array, Array]:
        reach, m3 = self.reach[left_out], self.self_concordance
        with np.errstate(over="ignore"):
            drift = np.exp(m3 * evaluation.change)  # ≥ max_j d_j(θ̂)/d_j(β)
        here = newton_certificate(evaluation.decrement + evaluation.rounding, reach, drift, m3)
        after = chord_radius(here, evaluation.change, reach, m3) + evaluation.rounding
        stepped = after < here
        return np.where(stepped[:, None], points + evaluation.step, points), np.where(stepped, after, here)


@dataclass(frozen=True, eq=False)
class StrongConvexity(_Lengths):
    """For losses without M₃: ‖∇F_{−i}‖₂ / min λ, in the plain norm of the parameters."""

    void: ClassVar[str] = (
        "the loss declares no self-concordance and some coefficient has no ridge: no certificate exists"
    )
    problems: LeaveOneOutProblems
    factor: Array
    smallest_ridge: float

    @property
    def exists(self) -> bool:
        return self.smallest_ridge > 0

    def bound(self, left_out: Array, points: Array, evaluation: Evaluation) -> tuple[Array, Array]:
        gradient = self.problems.gradient_at(left_out, evaluation.step)
        rounding = evaluation.rounding * np.linalg.norm(self.factor)
        length = np.linalg.norm(gradient @ self.factor, axis=1) + rounding
        return points, strong_convexity_radius(length, self.smallest_ridge)


def certificate_for(fit: Fit, problems: LeaveOneOutProblems, queries: Array) -> Certificate:
    """The certificate that the fit's loss allows; queries (q, m) in the coordinates of fit.space."""
    whitened = whiten(fit.minimum.factor, queries)
    cross = problems.rows @ whitened.T
    remaining = np.where(problems.removable, problems.remaining, np.nan)[:, None]
    newton = problems.residual[:, None] * cross / remaining
    rms = np.sqrt(np.nanmean(newton**2, axis=0)) if problems.removable.any() else np.zeros(len(queries))
    if fit.glm.loss.self_concordance is None:
        lengths = np.broadcast_to(np.linalg.norm(queries, axis=1), cross.shape)
        return StrongConvexity(lengths, rms, problems, fit.minimum.factor, float(fit.space.ridge.min()))
    square = np.einsum("qm,qm->q", whitened, whitened)
    lengths = np.sqrt(square + fit.curvature[:, None] * cross**2 / remaining)
    reach = np.sqrt(largest_of_others(problems.square_lengths) / remaining[:, 0])
    return SelfConcordant(lengths, rms, problems, reach, fit.glm.loss.self_concordance)
