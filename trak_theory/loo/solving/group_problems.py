"""The problems of leaving out groups of points, evaluated and certified as single points are.

For a group S, in the coordinates of `problems`, the Hessian without it is M = I − WᵀW with WᵀW = Σ_S d_i a_i a_iᵀ, and

    g(u) = u − Σ_S r_i a_i − WᵀWu + Σ_{j∉S} ρ_j a_j,     M⁻¹ = I + WᵀKW,     K = (I − WWᵀ)⁻¹,

so that one group costs about as much as one point. A point is a group of its own, of which this is another path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy import ndarray as Array

from trak_theory.glm.model import Fit
from trak_theory.loo.certificates import Certificate, SelfConcordant, StrongConvexity
from trak_theory.loo.solving.evaluation import Evaluator
from trak_theory.loo.solving.problems import LeaveOneOutProblems
from trak_theory.losses import Remainder
from trak_theory.numerics.whitening import EPS


@dataclass(frozen=True, eq=False)
class GroupProblems:
    """b problems, each without a group, with the interface of `LeaveOneOutProblems`.

    rows A (n, m); members (b, n); pull Σ_S r_i a_i (b, m); removed W (b, s, m); core K (b, s, s);
    remaining (b,) ≤ the smallest eigenvalue of M
    """

    rows: Array
    members: Array
    pull: Array
    removed: Array
    core: Array
    remaining: Array
    remainder: Remainder

    @cached_property
    def square_lengths(self) -> Array:
        return np.einsum("im,im->i", self.rows, self.rows)

    @property
    def removable(self) -> Array:
        return self.remaining > self.rows.shape[1] * EPS

    def astype(self, dtype: type) -> GroupProblems:
        """The same problems with the products in another precision."""
        return replace(
            self, **{name: getattr(self, name).astype(dtype) for name in ("rows", "pull", "removed", "core")}
        )

    def newton_points(self, left_out: Array) -> Array:
        return self.solve(left_out, self.pull[left_out])[0]

    def changes(self, left_out: Array, points: Array) -> tuple[Array, Array]:
        """The changes of all outputs (b, n) at `points` (b, m), split as `set_apart` does."""
        return self.set_apart(left_out, points @ self.rows.T)

    def set_apart(self, left_out: Array, change: Array) -> tuple[Array, Array]:
        """s (b, n), in place, with 0 at the left-out points, and the length of what was there (b,)."""
        members = self.members[left_out]
        own = np.sqrt(np.einsum("bn,bn,bn->b", change, change, members))
        change[members] = 0.0
        return change, own

    def gradient(self, left_out: Array, points: Array, change: Array, own: Array) -> tuple[Array, Array]:
        """g (b, m) and ρ (b, n) at `points` (b, m) with changes (b, n), consumed."""
        remainder, removed = self.remainder(change), _some(self.removed, left_out)
        gradient = remainder @ self.rows
        gradient += points - self.pull[left_out]
        gradient -= _times(removed.mT, _times(removed, points))
        return gradient, remainder

    def solve(self, left_out: Array, vectors: Array) -> tuple[Array, Array]:
        """M⁻¹v (b, m) and ‖v‖_{M⁻¹} (b,)."""
        removed = _some(self.removed, left_out)
        along = _times(removed, vectors)
        back = _times(_some(self.core, left_out), along)
        square = np.einsum("bm,bm->b", vectors, vectors) + np.einsum("bs,bs->b", along, back)
        return vectors + _times(removed.mT, back), np.sqrt(np.maximum(square, 0.0))

    def extra_square(self, vectors: Array) -> Array:
        """‖v‖²_{M⁻¹} − ‖v‖² (b, …) of rows (…, m), the same for every group."""
        along = vectors @ self.removed.mT
        return np.maximum(np.einsum("bvs,bst,bvt->bv", along, self.core, along, optimize=True), 0.0)


def _some(arrays: Array, chosen: Array) -> Array:
    """Those of `arrays` (b, …); no copy where they are all chosen (in order, as everywhere here)."""
    return arrays if chosen.size == len(arrays) else arrays[chosen]


def _times(matrices: Array, vectors: Array) -> Array:
    """Products (b, s) of matrices (b, s, m) with vectors (b, m)."""
    return (matrices @ vectors[:, :, None])[:, :, 0]


def group_problems(fit: Fit, problems: LeaveOneOutProblems, groups: Sequence[Array]) -> GroupProblems:
    """The problems of `fit` without each of `groups`, from those of its single points."""
    n, m = problems.rows.shape
    members, removed = np.zeros((len(groups), n), bool), np.zeros((len(groups), max(map(len, groups)), m))
    for b, group in enumerate(groups):
        members[b, group] = True
        removed[b, : len(group)] = np.sqrt(problems.curvature[group])[:, None] * problems.rows[group]
    if removed.shape[1] > m:
        removed = np.asarray(np.linalg.qr(removed, mode="r"))
    core = _inverse(np.eye(removed.shape[1]) - removed @ removed.mT)
    with np.errstate(invalid="ignore", over="ignore"):
        remaining = 1 / (1 + np.linalg.norm(core - np.eye(removed.shape[1]), axis=(1, 2)))
    pull = members.astype(float) @ (problems.residual[:, None] * problems.rows)
    return GroupProblems(problems.rows, members, pull, removed, core, np.nan_to_num(remaining), problems.remainder)


def _inverse(matrices: Array) -> Array:
    """Inverses (b, s, s); NaN where a matrix is singular."""
    try:
        return np.linalg.inv(matrices)
    except np.linalg.LinAlgError:
        if len(matrices) == 1:
            return np.full_like(matrices, np.nan)
        return np.concatenate([_inverse(matrix[None]) for matrix in matrices])


class GroupEvaluator(Evaluator):
    """`Evaluator` for groups: what is known of rows adds up over the members."""

    problems: GroupProblems  # type: ignore[assignment]

    @cached_property
    def doubt(self) -> Array:
        """ω (b,): a relative error ν of the rows is one of 2ν √Σ_S h_i of WᵀW."""
        leverage = np.einsum("bsm,bsm->b", self.problems.removed, self.problems.removed)
        relative = (4 + 2 * np.sqrt(leverage)) * self.precision.relative + EPS * self.problems.core.shape[1]
        with np.errstate(divide="ignore"):
            return relative / self.problems.remaining

    def dual_norms(self, block: Array) -> tuple[Array, None]:
        square = np.where(self.problems.members[block], 0.0, self.lengths**2)
        if self.sharp:
            used = self.fit.glm.weights > 0
            for b, group in enumerate(block.tolist()):
                alone = replace(self.problems, removed=self.problems.removed[[group]], core=self.problems.core[[group]])
                square[b] += alone.extra_square(self.problems.rows)[0] * used * ~self.problems.members[group]
            return np.sqrt(square.max(1) / (1 - self.doubt[block])), None
        return np.sqrt(square.max(1) / (self.problems.remaining[block] * (1 - self.doubt[block]))), None

    @cached_property
    def _sums(self) -> tuple[Array, Array, Array]:
        """Over each group (b,): Σ|r_i|(‖δa_i‖ + ε√n ‖a_i‖), (Σd_i²‖δa_i‖²)^½ and Σd_i ‖a_i‖ ‖δa_i‖."""
        errors, residual, curvature = self.precision.rows, np.abs(self.fit.residual), self.fit.curvature
        force = residual * (errors + EPS * np.sqrt(errors.size) * self.lengths)
        terms = np.stack([force, (curvature * errors) ** 2, curvature * self.lengths * errors], axis=1)
        sums = self._of_the_left_out(terms).T
        return sums[0], np.sqrt(sums[1]), sums[2]

    def _of_the_left_out(self, values: Array) -> Array:
        return self.problems.members.astype(float) @ values

    def _rounding(self, block: Array, size: Array, own: Array, pull: Array) -> Array:
        """As for one point, with the sums over the group; `own` = ‖s_S‖."""
        problems, precision = self.problems, self.precision
        n, m = problems.rows.shape
        force, stiffness, moved = (total[block] for total in self._sums)
        products = (EPS * np.sqrt(n) + precision.relative) * pull * np.sqrt(problems.square_lengths.sum())
        moved = 5 * precision.relative + 4 * EPS * np.sqrt(m) + moved
        return products + moved * size + force + own * stiffness + 2 * precision.losses + precision.gradient


class _OfGroups(Certificate):
    """A certificate for groups in place of points."""

    evaluator: GroupEvaluator

    def goal(self, tol: float) -> Array:
        usable = np.flatnonzero(self.evaluator.usable)
        if not usable.size:
            return np.zeros(self.evaluator.usable.size)
        rms = np.sqrt(np.mean(self.influence(self.evaluator.problems.newton_points(usable)) ** 2, axis=0))
        seen = rms > 0
        return tol * np.min(rms[seen] / self.lengths[:, seen], axis=1, initial=np.inf)

    def reason(self, i: int) -> str:
        return self.void if self.evaluator.usable[i] else "nothing that determines a coefficient is left"


class _SelfConcordantGroups(_OfGroups, SelfConcordant):
    @cached_property
    def lengths(self) -> Array:
        evaluator, problems = self.evaluator, self.evaluator.problems
        square = np.einsum("qm,qm->q", self.whitened, self.whitened) + problems.extra_square(self.whitened)
        with np.errstate(divide="ignore", invalid="ignore"):
            lengths = np.sqrt(square) + self.error / np.sqrt(problems.remaining)[:, None]
            return lengths / np.sqrt(1 - evaluator.doubt)[:, None]


class _StronglyConvexGroups(_OfGroups, StrongConvexity):
    @cached_property
    def lengths(self) -> Array:
        length = np.linalg.norm(self.queries, axis=1)
        return np.broadcast_to(length, (len(self.evaluator.problems.remaining), length.size))


def certificate_without(single: Certificate, groups: Sequence[Array]) -> Certificate:
    """The certificate of the problems without each of `groups`."""
    known = single.evaluator
    problems = group_problems(known.fit, known.problems, groups)
    evaluator = GroupEvaluator(known.fit, problems, known.precision, False)  # type: ignore[arg-type]
    kind = _SelfConcordantGroups if isinstance(single, SelfConcordant) else _StronglyConvexGroups
    return kind(evaluator, single.queries, single.whitened, single.error, single.rotated)
