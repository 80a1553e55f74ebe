"""Minima of one convex objective under many sets of sample weights, from the minimum under all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy import ndarray as Array

from trak_theory.shallow.objective import Objective, State
from trak_theory.shallow.solve import AT_ROUNDING, Solve, cholesky, conjugate_gradients, newton_cg

TOL = 1e-11  # of the first Newton decrement, and of the right-hand side of a linear system
SOLVED = 1e-8  # share of the first gradient, or of the right-hand side, that may be left
ROUNDS = 6  # descents of a single problem, each preconditioned with the Hessian where the last one ended
FLOATS_AT_ONCE = 2**21  # in one array of a batch


@dataclass(frozen=True, eq=False)
class Minima:
    """Points (B, m), ‖∇F‖₂ there with an allowance for its rounding and at the start (B,), and what is solved (B,)."""

    points: Array
    gradient_norm: Array
    first_norm: Array
    solved: Array


@dataclass(frozen=True, eq=False)
class ReweightedMinima:
    """The problems Σ_i w_i ℓ_i(f⁰_i + J_iδ) + (λ/2)‖δ − c‖², one for each row of weights w (B, n), solved from δ = 0.

    reference (n,): the weights whose Hessian at δ = 0 preconditions them all.
    """

    objective: Objective
    reference: Array

    def newton_steps(self, weights: Array) -> Array:
        """−H⁻¹∇F at δ = 0 (B, m)."""
        return np.concatenate([self._newton_step(self._start(part)) for part in self._batches(weights)])

    def minima(self, weights: Array) -> Minima:
        """Newton–CG with a line search, all problems at once; what it leaves, one by one with Hessians of its own."""
        parts = [self._descend(part) for part in self._batches(weights)]
        return Minima(*(np.concatenate(pieces) for pieces in zip(*parts, strict=True)))

    @cached_property
    def _precondition(self) -> Solve:
        return cholesky(self.objective.gauss_newton(np.zeros_like(self.objective.centre), self.reference))

    def _batches(self, weights: Array) -> Iterator[Array]:
        size = max(1, FLOATS_AT_ONCE // self.objective.outputs.work)
        return (weights[start : start + size] for start in range(0, len(weights), size))

    def _start(self, weights: Array) -> State:
        return self.objective.at(np.zeros((len(weights), self.objective.centre.size)), weights)

    def _newton_step(self, state: State) -> Array:
        target = -state.gradient
        step = conjugate_gradients(state.hvp, target, self._precondition, np.full(len(target), TOL))
        left = np.linalg.norm(state.hvp(step) - target, axis=1)
        for b in np.flatnonzero(left > SOLVED * np.linalg.norm(target, axis=1)):
            step[b] = cholesky(self.objective.gauss_newton(state.theta[b], state.weights[b]))(target[b])
        return step

    def _descend(self, weights: Array) -> tuple[Array, Array, Array, Array]:
        start = self._start(weights)
        first = np.linalg.norm(start.gradient, axis=1)
        points = newton_cg(self.objective, start.theta, weights, self._precondition, tol=TOL).theta
        _, solved = self._gradient(points, weights, first)
        for b in np.flatnonzero(~solved):
            points[b] = self._alone(points[b : b + 1], weights[b : b + 1], first[b])
        left, solved = self._gradient(points, weights, first)
        return points, left, first, solved

    def _alone(self, point: Array, weights: Array, first: float) -> Array:
        for _ in range(ROUNDS):
            own = cholesky(self.objective.gauss_newton(point[0], weights[0]))
            point = newton_cg(self.objective, point, weights, own, tol=TOL).theta
            if self._gradient(point, weights, first)[1]:
                break
        return point[0]

    def _gradient(self, points: Array, weights: Array, first: Array | float) -> tuple[Array, Array]:
        """‖∇F‖₂ with its rounding, and whether that is small."""
        state = self.objective.at(points, weights)
        left, rounding = np.linalg.norm(state.gradient, axis=1), state.gradient_rounding
        return left + rounding, left <= np.maximum(SOLVED * first, AT_ROUNDING * rounding)
