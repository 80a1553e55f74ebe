"""Accelerated chord steps through many leave-one-out problems at once, each as far as its certificate asks for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array

from trak_theory.loo.certificates import Certificate
from trak_theory.loo.solving.acceleration import Anderson
from trak_theory.loo.solving.evaluation import Evaluation

MOSTLY_ROUNDING = 1e2  # a distance within this factor of the rounding allowance is as good as it gets


@dataclass(eq=False)
class Found:
    """The best certified points (b, m) of the problems `block` so far, with their distances (b,).

    settled (b,): within its `goal` (b,), or as near as rounding allows
    """

    certificate: Certificate
    block: Array
    goal: Array
    points: Array
    distance: Array
    settled: Array

    def take(self, rows: Array, evaluation: Evaluation) -> Array:
        """Learn from an evaluation of the problems block[rows]; which of them should go on (b′,)."""
        for candidate, bound in self.certificate.near(self.block[rows], evaluation):
            better = bound < self.distance[rows]
            self.points[rows[better]], self.distance[rows[better]] = candidate[better], bound[better]
        rounding = evaluation.rounding / np.sqrt(self.certificate.evaluator.problems.remaining[self.block[rows]])
        exhausted = evaluation.decrement <= rounding
        near = (self.distance[rows] <= MOSTLY_ROUNDING * rounding) | (not self.certificate.exists)
        done = (self.distance[rows] <= self.goal[rows]) | (exhausted & near)
        self.settled[rows[done]] = True
        return ~done & ~exhausted & np.isfinite(evaluation.decrement)


def certified_points(
    certificate: Certificate, block: Array, start: Array | None, goal: Array, evaluations: int
) -> tuple[Array, Array, Array]:
    """Accelerated chord steps from `start` (b, m), or the Newton points: the best points (b, m) that are certified.

    Their distances and whether each problem is settled, both (b,): see `Found`. At most `evaluations` pairs of
    products (b, m) × (m, n).
    """
    evaluator = certificate.evaluator
    dual_norm, change = evaluator.dual_norms(block)
    if start is None:
        points = evaluator.problems.newton_points(block)
    else:
        points, change = start, None
    found = Found(certificate, block, goal, points.copy(), np.full(block.size, np.inf), np.zeros(block.size, bool))
    rows, anderson = np.arange(block.size), Anderson()
    for _ in range(evaluations):
        evaluation = evaluator.evaluate(block[rows], points, dual_norm[rows], change)
        left = found.take(rows, evaluation)
        if not left.any():
            break
        points, change = anderson.next(points, evaluation.step)[left], None
        anderson.keep(left)
        rows = rows[left]
    return found.points, found.distance, found.settled
