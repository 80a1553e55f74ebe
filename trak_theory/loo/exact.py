"""Exact leave-one-out influence of every point on every query, with a certified radius for each entry."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy import ndarray as Array
from scipy.linalg import solve_triangular

from trak_theory.errors import ConvergenceError, NoMinimiserError, RankDeficientError
from trak_theory.glm.minimise import minimise
from trak_theory.glm.model import Fit
from trak_theory.loo.bounds import newton_certificate, strong_convexity_radius
from trak_theory.loo.certificates import Certificate, certificate_for
from trak_theory.loo.problems import Anderson, LeaveOneOutProblems, leave_one_out_problems
from trak_theory.numerics.checks import query_array
from trak_theory.numerics.whitening import whiten

BLOCK = 256
WARM_STEPS = 4  # in single precision, which is good for a relative step of about WARM_TOL
WARM_TOL = 2e-5
CERTIFIED_STEPS = 30  # in double precision
MOSTLY_ROUNDING = 1e2  # a radius within this factor of the rounding allowance is not worth a refit


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


def leave_one_out(fit: Fit, queries: Any, *, tol: float = 1e-10) -> LeaveOneOut:
    """All n leave-one-out refits of a GLM at once; queries (q, p).

    `tol` asks for a radius ≤ tol · (rms influence of the query). The radius includes an allowance for rounding,
    which can exceed that on ill-conditioned features. Cost: a few pairs of products (n, m) × (m, n), m = min(n, p),
    in blocks of 256 left-out points; rows that resist get a Newton solve of their own. Errors are per row: a
    left-out problem without a minimiser comes back as NaN with an infinite radius and the reason.
    """
    queries = fit.space.pull(query_array(queries, fit.glm.features.shape[1]))
    problems = leave_one_out_problems(fit)
    certificate = certificate_for(fit, problems, queries)
    points, radii, converged = _solve_all(problems, certificate, certificate.goal(tol))

    displacement = solve_triangular(fit.minimum.factor, points.T, check_finite=False).T
    influence = -points @ whiten(fit.minimum.factor, queries).T
    radius = certificate.lengths * radii[:, None]
    unresolved: dict[int, str] = {}
    for i in map(int, np.flatnonzero(~converged)):
        try:
            displacement[i], radius[i] = _refit(fit, queries, i, displacement[i])
        except (ConvergenceError, NoMinimiserError, RankDeficientError) as error:
            displacement[i], radius[i] = np.nan, np.inf
            unresolved[i] = f"leaving out point {i} (leverage {1 - problems.remaining[i]:.6g}): {error}"
        influence[i] = -queries @ displacement[i]
    for i in map(int, np.flatnonzero(~np.isfinite(radius).all(1))):
        unresolved.setdefault(i, certificate.void)
    return LeaveOneOut(influence, radius, unresolved, fit, displacement)


def _solve_all(problems: LeaveOneOutProblems, certificate: Certificate, goal: Array) -> tuple[Array, Array, Array]:
    """Points (n, m), radii (n,) and whether each problem converged, block by block from easy to hard."""
    n, m = problems.rows.shape
    points, radii, converged = np.zeros((n, m)), np.full(n, np.inf), np.zeros(n, bool)
    single = problems.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # a row that runs away gets a refit
        for block in _blocks(problems):
            start = _warm_up(single, block, problems.newton_points(block))
            points[block], radii[block], converged[block] = _solve(problems, certificate, block, start, goal[block])
    return points, radii, converged


def _blocks(problems: LeaveOneOutProblems) -> list[Array]:
    """The removable points in blocks from easy to hard, by the size of their Newton step."""
    removable = np.flatnonzero(problems.removable)
    step = np.abs(problems.residual) * problems.square_lengths
    order = removable[np.argsort(step[removable] / problems.remaining[removable], kind="stable")]
    return [order[start : start + BLOCK] for start in range(0, order.size, BLOCK)]


def _warm_up(single: LeaveOneOutProblems, block: Array, start: Array) -> Array:
    """Accelerated chord steps in single precision, where they help."""
    points, anderson = start.astype(np.float32), Anderson()
    for _ in range(WARM_STEPS):
        step, _, _ = single.chord_step(block, points)
        points = anderson.next(points, step)
        if np.linalg.norm(step) <= WARM_TOL * np.linalg.norm(points):
            break
    usable = np.isfinite(points).all(1, keepdims=True)
    return np.where(usable, points.astype(np.float64), start)


def _solve(
    problems: LeaveOneOutProblems, certificate: Certificate, block: Array, points: Array, goal: Array
) -> tuple[Array, Array, Array]:
    """Accelerated chord steps in double precision until each certified radius is within its goal, or at rounding."""
    solution, radii, converged = points.copy(), np.full(block.size, np.inf), np.zeros(block.size, bool)
    active, anderson = np.arange(block.size), Anderson()
    for _ in range(CERTIFIED_STEPS):
        evaluation = problems.evaluate(block[active], points)
        candidates, bound = certificate.bound(block[active], points, evaluation)
        better = bound <= radii[active]
        solution[active[better]], radii[active[better]] = candidates[better], bound[better]
        exhausted = evaluation.decrement <= evaluation.rounding
        near = np.isfinite(bound) & (radii[active] <= MOSTLY_ROUNDING * evaluation.rounding)
        done = (radii[active] <= goal[active]) | (exhausted & (near | (not certificate.exists)))
        converged[active[done]] = True
        left = ~done & ~exhausted & np.isfinite(evaluation.decrement)
        if not left.any():
            break
        points = anderson.next(points, evaluation.step)[left]
        anderson.keep(left)
        active = active[left]
    return solution, radii, converged


def _refit(fit: Fit, queries: Array, i: int, start: Array) -> tuple[Array, Array]:
    """Displacement and radius (q,) of one problem by damped Newton, certified in the norm of its own Hessian."""
    weights = fit.glm.weights.copy()
    weights[i] = 0.0
    objective = replace(fit.objective, weights=weights)
    origin = fit.minimum.theta
    closer = objective.value(origin + start) < objective.value(origin)
    minimum = minimise(objective, origin + start if closer else origin, tol=1e-12)
    rounding = objective.decrement_rounding(minimum.theta, minimum.factor)
    rows = whiten(minimum.factor, np.vstack([objective.features[weights > 0], queries]))
    lengths = np.linalg.norm(rows, axis=1)
    reach = lengths[: -len(queries)].max()
    if fit.glm.loss.self_concordance is None:
        gradient_norm = float(np.linalg.norm(objective.gradient(minimum.theta)))
        radius = np.linalg.norm(queries, axis=1) * strong_convexity_radius(gradient_norm, objective.ridge.min())
    else:
        left = minimum.decrement + rounding
        radius = lengths[-len(queries) :] * newton_certificate(left, reach, 1.0, fit.glm.loss.self_concordance)
    return minimum.theta - origin, radius
