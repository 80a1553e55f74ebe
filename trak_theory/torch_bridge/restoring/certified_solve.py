"""From a sketch to certified scores: one pass over the samples, the queries, and the solve for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy import ndarray as Array
from scipy.linalg import cho_factor, cho_solve
from torch import Tensor

from trak_theory.numerics.block_cg import block_conjugate_gradients
from trak_theory.retraining.sketched_influence import SketchedCurvature
from trak_theory.torch_bridge.features import Function, gradients
from trak_theory.torch_bridge.module import Rows
from trak_theory.torch_bridge.restoring.assembly import _finite, _lost_words
from trak_theory.torch_bridge.restoring.direction_kernel import DirectionKernel
from trak_theory.torch_bridge.sketch import Sketch
from trak_theory.trajectory.query import as_numpy


@dataclass(frozen=True, eq=False)
class RestoredByCG:
    """Restored influence of all directions, unsketched, and a bound on what the iteration left.

    scores (n, q)   −g_iᵀ(ΨᵀΨ + λI)⁻¹φ*_j, presence sign; NaN for a sample without a finite gradient
    bound (n, q)    ≥ |error| of each score, ‖g_i‖‖ε_j‖/√λ, but for the rounding of products in the module's precision
    residual (q,)   ‖ε_j‖/‖Ψx_j‖, the relative residual, of which `tol` was asked
    ridge λ         of the rule
    steps           of conjugate gradients
    kept            share of the trace of the output curvatures that the directions hold; of drawn ones 1 in the mean
    warnings        in words
    """

    scores: Array = field(repr=False)
    bound: Array = field(repr=False)
    residual: Array = field(repr=False)
    ridge: float
    steps: int
    kept: float
    warnings: tuple[str, ...]

    def with_lost(self, lost: Array) -> RestoredByCG:
        """With NaN rows for the samples that are lost (n,), which have no row yet."""
        if not lost.any():
            return self
        rows = np.full((2, len(lost), self.scores.shape[1]), np.nan)
        rows[:, ~lost] = self.scores, self.bound
        words = (*_lost_words("samples", lost), *self.warnings)
        return replace(self, scores=rows[0], bound=rows[1], warnings=words)


@dataclass(frozen=True, eq=False)
class Passed:
    """What one pass through a sketch leaves of n samples: sums, Y (n m, k), ‖g_i‖ (n,), which are broken (n,)."""

    sums: SketchedCurvature
    directions: Array
    lengths: Array
    broken: Array
    kept: float


def sketched(kernel: DirectionKernel, sketch: Sketch, k: int) -> Passed:
    def measured(rows: Tensor) -> Tensor:
        return torch.cat([sketch(rows), rows.norm(dim=-1, keepdim=True)], -1)

    sums = SketchedCurvature(kernel.rows.n, np.zeros((k, k)))
    directions, lengths, broken = list[Array](), list[Array](), list[Array]()
    trace, kept = 0.0, 0.0
    for part in map(_finite, kernel.sketched(measured)):
        rows = part.points.rows[0]
        sums.add(rows[..., :-1], rows[:0, 0, :-1], part.weights)
        directions.append(rows[:, 1:, :-1].reshape(-1, k).astype(float))
        lengths.append(rows[:, 0, -1].astype(float))
        broken.append(part.broken)
        trace, kept = trace + float(part.points.trace.sum()), kept + float(part.points.kept.sum())
    lost = np.concatenate(broken)
    if lost.all():
        raise ValueError(f"no sample has a finite gradient: all {len(lost)} are NaN or infinite")
    share = kept / trace if trace > 0 else 1.0
    return Passed(sums, np.concatenate(directions), np.concatenate(lengths), lost, share)


class Slopes(NamedTuple):
    """φ*_j (p, c) of some queries, 0 where `unasked` (c,): not finite."""

    values: Array
    unasked: Array


@dataclass(frozen=True, eq=False)
class Queries:
    """φ*_j in scaled coordinates, as many at a time as `DirectionKernel.at_once`."""

    kernel: DirectionKernel
    rows: Rows
    output: Function
    sketch: Sketch

    def slopes(self) -> Iterator[Slopes]:
        scales = self.kernel.scales
        for first in range(0, self.rows.n, self.kernel.at_once):
            part = self.rows.part(slice(first, first + self.kernel.at_once))
            found = gradients(self.kernel.model, self.output, part)
            found = found if scales is None else found * as_numpy(scales)
            whole = np.isfinite(found).all(1)
            yield Slopes(np.where(whole[:, None], found, 0.0).T, ~whole)

    def sketched(self, slopes: Array) -> Array:
        """(k, c)."""
        return as_numpy(self.sketch(torch.from_numpy(np.ascontiguousarray(slopes.T)))).T


@dataclass(frozen=True, eq=False)
class Woodbury:
    """(YYᵀ + λI)⁻¹ = (I − Y(YᵀY + λI)⁻¹Yᵀ)/λ of rows Y (N, k)."""

    rows: Array
    gram: Array
    ridge: float

    @cached_property
    def _factor(self) -> tuple[Array, bool]:
        return cho_factor(self.gram + self.ridge * np.eye(len(self.gram)), overwrite_a=True, check_finite=False)

    def __call__(self, right: Array) -> Array:
        return (right - self.rows @ cho_solve(self._factor, self.rows.T @ right, check_finite=False)) / self.ridge


def solved(
    kernel: DirectionKernel, asked: Queries, passed: Passed, ridge: float, tol: float, steps: int
) -> RestoredByCG:
    """Conjugate gradients from the sketch's own answer until ‖ε_j‖ ≤ tol‖α_j‖, then scores and bounds."""
    precondition = Woodbury(passed.directions, passed.sums.gram, ridge)
    parts = [(kernel.along(own.values).directions, asked.sketched(own.values), own.unasked) for own in asked.slopes()]
    right, inside = (np.concatenate(own, axis=1) for own in ([part[at] for part in parts] for at in (0, 1)))
    unasked = np.concatenate([part[2] for part in parts])
    coefficients, taken = block_conjugate_gradients(
        lambda columns: kernel.gram_product(columns) + ridge * columns,
        right,
        precondition(passed.directions @ inside),
        precondition,
        done=lambda found, left: bool(np.all(_lengths(left) <= tol * ridge * _lengths(found))),
        steps=steps,
    )
    scores, rest = _ended(kernel, asked, coefficients, ridge)
    bound = np.outer(passed.lengths, rest) / np.sqrt(ridge)
    scores[:, unasked], bound[:, unasked] = np.nan, np.nan
    size = _lengths(coefficients)
    residual = np.divide(rest, size, out=np.zeros_like(rest), where=size > 0)
    words = (*_lost_words("queries", unasked), *_short_words(residual.max(), tol, taken, steps))
    return RestoredByCG(scores, bound, residual, ridge, taken, passed.kept, words)


def _ended(kernel: DirectionKernel, asked: Queries, coefficients: Array, ridge: float) -> tuple[Array, Array]:
    """Scores −g_iᵀx̂_j (n, q) and ‖ε_j‖ = ‖Ψx̂_j − α_j‖ (q,), by a product that the iteration did not make."""
    scores, rest, at = list[Array](), list[Array](), 0
    for own in asked.slopes():
        part = coefficients[:, at : at + own.values.shape[1]]
        at += part.shape[1]
        along = kernel.along((own.values - kernel.combined(part)) / ridge)
        scores.append(-along.pull)
        rest.append(_lengths(along.directions - part))
    return np.concatenate(scores, axis=1), np.concatenate(rest)


def _lengths(columns: Array) -> Array:
    return np.linalg.norm(columns, axis=0)


def _short_words(residual: float, tol: float, taken: int, steps: int) -> Iterator[str]:
    if residual > tol:
        more = f"raise steps = {steps}" if taken == steps else "single precision goes no further: use module.double()"
        yield f"the relative residual is {residual:.2g} after {taken} steps, not tol = {tol:.2g}; {more}"
