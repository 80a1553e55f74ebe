"""Exact influence of groups of points on every query, with a certified radius for each entry."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike
from scipy.linalg import solve_triangular

from trak_theory.glm.model import Fit
from trak_theory.loo.certificates import Certificate, certificate_for
from trak_theory.loo.exact import CERTIFIED_STEPS, SHARP_STEPS, LeaveOneOut, refit, warm_up
from trak_theory.loo.solving.group_problems import certificate_without
from trak_theory.loo.solving.search import certified_points
from trak_theory.numerics.checks import query_array

MOST_GROUPS, MOST_NUMBERS = 256, 2**23  # of a block: groups, and numbers in its W


def leave_group_out(fit: Fit, groups: Sequence[ArrayLike], queries: ArrayLike, *, tol: float = 1e-10) -> LeaveOneOut:
    """Exact influence of groups of points, presence sign: f_j(θ̂) − f_j(θ̂ without S), (g, q), one row for each group.

    groups: index arrays of any sizes, disjoint or not; queries (q, p). `tol`, radius, coef (g, p) and the treatment of
    rounding are those of `leave_one_out`. A group that is empty, repeats an index, holds all points of any weight, or
    without which no minimiser exists comes back as NaN with an infinite radius and the reason in `unresolved`; the
    others do not notice. Cost of a group of s points: s² (s + m) and a few pairs of products (1, m) × (m, n).

    >>> import numpy as np
    >>> from trak_theory import GLM
    >>> fit = GLM(np.eye(3), np.array([1.0, 2.0, 4.0]), ridge=1.0).fit()
    >>> leave_group_out(fit, [[0], [0, 2]], np.array([[1.0, 1.0, 1.0]])).influence.round(12).ravel().tolist()
    [0.5, 2.5]
    """
    queries = query_array(queries, fit.glm.features.shape[1])
    single = certificate_for(fit, queries, sharp=False)
    arrays, unresolved = _checked_groups(groups, fit.glm.weights)
    shape = (len(arrays), len(queries))
    influence, radius = np.full(shape, np.nan), np.full(shape, np.inf)
    displacement = np.full((len(arrays), len(fit.minimum.theta)), np.nan)
    for block in _blocks(arrays, set(unresolved), displacement.shape[1]):
        certificate = certificate_without(single, [arrays[g] for g in block])
        points, distance, settled = _solve(certificate, tol)
        displacement[block] = solve_triangular(fit.minimum.factor, points.T, check_finite=False).T
        influence[block], radius[block] = certificate.influence(points), certificate.radius(points, distance)
        for g in block[~settled].tolist():
            with np.errstate(over="ignore", invalid="ignore"):  # far out, before the line search comes back
                alone, reason = refit(single, queries, arrays[g], displacement[g])
            if alone is not None and not np.all(radius[g] <= alone.radius):
                displacement[g], influence[g], radius[g] = alone.displacement, alone.influence, alone.radius
            if np.isinf(radius[g]).any():
                unresolved[g] = f"without group {g} of {len(arrays[g])} points: {reason}"
    for g in np.flatnonzero(np.isinf(radius).any(1)).tolist():
        unresolved.setdefault(g, f"group {g}: {single.void}")
    return LeaveOneOut(influence, radius, dict(sorted(unresolved.items())), fit, displacement)


def _solve(certificate: Certificate, tol: float) -> tuple[Array, Array, Array]:
    """Points (b, m), certified distances (b,) and whether each problem is settled."""
    problems, goal = certificate.evaluator.problems, certificate.goal(tol)
    points = np.full((goal.size, problems.rows.shape[1]), np.nan)
    distance, settled = np.full(goal.size, np.inf), np.zeros(goal.size, bool)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # a group that runs away gets a refit
        usable = np.flatnonzero(certificate.evaluator.usable)
        if usable.size:
            start = warm_up(problems.astype(np.float32), usable, problems.newton_points(usable))
            points[usable], distance[usable], settled[usable] = certified_points(
                certificate, usable, start, goal[usable], CERTIFIED_STEPS
            )
        wide = np.flatnonzero(certificate.evaluator.usable & ~(distance <= goal))
        if wide.size:
            points[wide], distance[wide], settled[wide] = certified_points(
                certificate.sharp, wide, points[wide], goal[wide], SHARP_STEPS
            )
    return points, distance, settled


def _blocks(groups: Sequence[Array], skipped: set[int], m: int) -> list[Array]:
    """Indices of groups of like size, as many as fit in memory together."""
    order = sorted(set(range(len(groups))) - skipped, key=lambda g: len(groups[g]))
    blocks, block = [], list[int]()
    for g in order:
        if block and (len(block) == MOST_GROUPS or (len(block) + 1) * len(groups[g]) * m > MOST_NUMBERS):
            blocks.append(np.array(block))
            block = []
        block.append(g)
    return [*blocks, np.array(block)] if block else blocks


def _checked_groups(groups: Sequence[ArrayLike], weights: Array) -> tuple[list[Array], dict[int, str]]:
    """Index arrays, and what is wrong with some of them: group → reason."""
    arrays, wrong = [], {}
    for g, given in enumerate(groups):
        group, reason = _checked_group(given, weights)
        arrays.append(group)
        if reason:
            wrong[g] = f"group {g} {reason}"
    return arrays, wrong


def _checked_group(given: ArrayLike, weights: Array) -> tuple[Array, str]:
    group = np.atleast_1d(np.asarray(given))
    if group.size == 0:
        return np.zeros(0, int), "is empty: leaving it out changes nothing"
    if group.ndim > 1 or group.dtype.kind not in "iu":
        return np.zeros(0, int), f"must be a list of integers, got {group.dtype} of shape {group.shape}"
    outside = (group < 0) | (group >= weights.size)
    if outside.any():
        return np.zeros(0, int), f"holds the index {group[outside][0]}, outside 0 … {weights.size - 1}"
    counts = np.bincount(group, minlength=weights.size)
    if counts.max() > 1:
        return np.zeros(0, int), f"repeats the index {np.argmax(counts)}: a point is left out once"
    if not weights[counts == 0].any():
        return np.zeros(0, int), f"holds every point of any weight ({group.size} of {weights.size}): nothing is left"
    return group.astype(int), ""
