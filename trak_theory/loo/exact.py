"""Exact leave-one-out influence of every point on every query, with a certified radius for each entry."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, replace

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike
from scipy.linalg import solve_triangular

from trak_theory.errors import ConvergenceError, NoMinimiserError, RankDeficientError
from trak_theory.glm.minimise import minimise
from trak_theory.glm.model import Fit
from trak_theory.loo.certificates import Certificate, certificate_for
from trak_theory.loo.rounding import product_error, reduction_error
from trak_theory.loo.solving.acceleration import Anderson
from trak_theory.loo.solving.group_problems import GroupProblems
from trak_theory.loo.solving.problems import LeaveOneOutProblems
from trak_theory.loo.solving.search import certified_points
from trak_theory.numerics.checks import query_array

BLOCK = 256
WARM_STEPS = 4  # in single precision, which is good for a relative step of about WARM_TOL
WARM_TOL = 2e-5
CERTIFIED_STEPS = 30  # in double precision
SHARP_STEPS = 3
COARSE = 1e4  # a distance beyond this multiple of the fit's own is worth a Newton solve


@dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """Exact influence, presence sign: f_j(θ̂) − f_j(θ̂ without i).

    influence (n, q)  in the outputs' units; NaN in rows that did not converge
    radius (n, q)     certified half-width, |influence − exact| ≤ radius; inf where nothing is certified
    unresolved        left-out point → the reason for its infinite radius
    coef (n, p)       the leave-one-out minimisers, one row for each left-out point
    """

    influence: Array
    radius: Array
    unresolved: dict[int, str]
    fit: Fit = field(repr=False)
    displacement: Array = field(repr=False)  # (n, m) in the coordinates of fit.space

    @property
    def coef(self) -> Array:
        return self.fit.space.lift(self.fit.minimum.theta + self.displacement)


def leave_one_out(fit: Fit, queries: ArrayLike, *, tol: float = 1e-10) -> LeaveOneOut:
    """All n leave-one-out refits of a GLM at once; queries (q, p).

    `tol` asks for a radius ≤ tol · (rms influence of the query). The radius holds for the exact minimisers in exact
    arithmetic: it includes the fit's own distance from its optimum and an allowance for rounding, which can exceed
    `tol` on ill-conditioned features. Cost: a few pairs of products (n, m) × (m, n), m = min(n, p), in blocks of 256
    left-out points; rows that did not converge get a Newton solve of their own. Errors are per row: a left-out
    problem without a minimiser comes back as NaN with an infinite radius and the reason.

    >>> from trak_theory import GLM, leave_one_out
    >>> fit = GLM([[1.0], [1.0], [1.0]], [1.0, 2.0, 6.0]).fit()  # the mean, 3
    >>> leave_one_out(fit, [[1.0]]).influence[:, 0].round(9).tolist()  # 3 − 4, 3 − 3.5, 3 − 1.5
    [-1.0, -0.5, 1.5]
    """
    queries = query_array(queries, fit.glm.features.shape[1])
    certificate = certificate_for(fit, queries, sharp=False)
    points, distance, settled = _solve_all(certificate, certificate.goal(tol))
    displacement = solve_triangular(fit.minimum.factor, points.T, check_finite=False).T
    influence, radius = certificate.influence(points), certificate.radius(points, distance)
    unresolved: dict[int, str] = {}
    coarse = distance > np.maximum(certificate.goal(tol), COARSE * certificate.evaluator.precision.gradient)
    for i in map(int, np.flatnonzero(~settled | coarse)):
        alone, reason = refit(certificate, queries, i, displacement[i])
        if alone is not None and not np.all(radius[i] <= alone.radius):
            displacement[i], influence[i], radius[i] = alone.displacement, alone.influence, alone.radius
        if np.isinf(radius[i]).any():
            unresolved[i] = f"leaving out point {i} (leverage {_leverage(certificate, i):.6g}): {reason}"
    for i in map(int, np.flatnonzero(np.isinf(radius).any(1))):
        unresolved.setdefault(i, certificate.void)
    return LeaveOneOut(influence, radius, unresolved, fit, displacement)


def _leverage(certificate: Certificate, i: int) -> float:
    return float(1 - certificate.evaluator.problems.remaining[i])


def _solve_all(certificate: Certificate, goal: Array) -> tuple[Array, Array, Array]:
    """Points (n, m), certified distances (n,) and whether each problem is settled, in blocks from easy to hard."""
    problems = certificate.evaluator.problems
    n, m = problems.rows.shape
    points, distance, settled = np.full((n, m), np.nan), np.full(n, np.inf), np.zeros(n, bool)
    single = problems.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # a row that runs away gets a refit
        for block in _blocks(certificate):
            start = warm_up(single, block, problems.newton_points(block))
            points[block], distance[block], settled[block] = certified_points(
                certificate, block, start, goal[block], CERTIFIED_STEPS
            )
        for block in _chunks(np.flatnonzero(certificate.evaluator.usable & ~settled)):
            closer, bound, settled[block] = certified_points(
                certificate.sharp, block, points[block], goal[block], SHARP_STEPS
            )
            better = bound < distance[block]
            points[block[better]], distance[block[better]] = closer[better], bound[better]
    return points, distance, settled


def _blocks(certificate: Certificate) -> list[Array]:
    """The usable points in blocks from easy to hard, by the size of their Newton step."""
    problems, usable = certificate.evaluator.problems, np.flatnonzero(certificate.evaluator.usable)
    step = np.abs(problems.residual) * problems.square_lengths
    order = usable[np.argsort(step[usable] / problems.remaining[usable], kind="stable")]
    return _chunks(order)


def _chunks(rows: Array) -> list[Array]:
    return [rows[start : start + BLOCK] for start in range(0, rows.size, BLOCK)]


def warm_up(single: LeaveOneOutProblems | GroupProblems, block: Array, start: Array) -> Array:
    """Accelerated chord steps in single precision, where they help."""
    points, anderson = start.astype(np.float32), Anderson()
    for _ in range(WARM_STEPS):
        gradient, _ = single.gradient(block, points, *single.changes(block, points))
        step = -single.solve(block, gradient)[0]
        points = anderson.next(points, step)
        if np.linalg.norm(step) <= WARM_TOL * np.linalg.norm(points):
            break
    usable = np.isfinite(points).all(1, keepdims=True)
    return np.where(usable, points.astype(np.float64), start)


@dataclass(frozen=True, eq=False)
class _Alone:
    """One left-out point, solved alone: displacement (m,), influence and radius (q,)."""

    displacement: Array
    influence: Array
    radius: Array


def refit(certificate: Certificate, queries: Array, i: int | Array, start: Array) -> tuple[_Alone | None, str]:
    """The fit without the point or points i by damped Newton, certified as any fit is; or None, and the reason."""
    fit = certificate.evaluator.fit
    try:
        left = _fit_without(fit, i, start)
    except (ConvergenceError, NoMinimiserError, RankDeficientError) as error:
        return None, str(error)
    alone, pulled = certificate_for(left, queries, sharp=False), certificate.queries
    displacement = left.minimum.theta - fit.minimum.theta
    rounding = product_error(pulled, displacement) + reduction_error(fit.space, queries) * np.linalg.norm(displacement)
    beside = np.abs(left.residual - fit.residual) @ certificate.evaluator.precision.rotation
    radius = alone.own + certificate.own + rounding + beside * certificate.rotated
    return _Alone(displacement, -pulled @ displacement, radius), alone.reason_for_the_fit


def _fit_without(fit: Fit, i: int | Array, start: Array) -> Fit:
    """`fit` with weight 0 on i, from θ̂ + `start` or θ̂, whichever is lower."""
    glm, weights, theta = copy(fit.glm), fit.glm.weights.copy(), fit.minimum.theta
    weights[i] = 0.0
    glm.weights = weights
    objective = replace(fit.objective, weights=weights)
    closer = np.isfinite(start).all() and objective.value(theta + start) < objective.value(theta)
    return Fit(glm, objective, fit.space, minimise(objective, theta + start if closer else theta, tol=1e-12))
