"""Leave-one-out truth for networks: the neighbouring minimum in the same basin, and a retraining from the start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy import ndarray as Array

from trak_theory.errors import ConvergenceError
from trak_theory.shallow.certificate import Certificate, certify, query_error
from trak_theory.shallow.model import ShallowFit
from trak_theory.shallow.objective import Objective
from trak_theory.shallow.queries import Queries
from trak_theory.shallow.solve import Solve, newton_cg, stationary_point, trust_region

LEFT_BASIN = 10.0  # times the joint certificate

Progress = Callable[[Iterable[int]], Iterable[int]]


@dataclass(frozen=True, eq=False)
class ShallowLeaveOneOut:
    """Influence of b left-out points on q queries, presence sign: g_j(θ̂) − g_j(θ̂ without i).

    rows (b,)                the points left out
    influence (b, q)         NaN in rows without a certified strict minimum
    radius (b, q)            |influence − that of the minimiser nearby| ≤ radius; inf where nothing is certified
    distance (b,)            certified ‖θ̂ − θ̂_{−i}‖ from above; inf where nothing is certified
    gradient_norm, smallest_eigenvalue (b,)
    unresolved               left-out point → the reason for its NaN or infinite radius
    theta (b, p)             the leave-one-out minimisers
    """

    rows: Array
    influence: Array
    radius: Array
    distance: Array
    gradient_norm: Array
    smallest_eigenvalue: Array
    unresolved: dict[int, str]
    theta: Array = field(repr=False)


def leave_one_out(
    fit: ShallowFit,
    queries: Queries,
    *,
    rows: Array | None = None,
    tol: float = 1e-10,
    progress: Progress = iter,
) -> ShallowLeaveOneOut:
    """The minimum that a monotone descent from θ̂ reaches without point i, for all `rows` (default: every point).

    Batched Newton–CG from θ̂, preconditioned with the full fit's Hessian; rows that do not converge, or end at a
    saddle, get a trust region of their own. `progress` wraps the loop over rows (tqdm fits).
    """
    rows = _rows(fit, rows)
    found = descend(fit.objective, fit.theta, fit.solve, rows, tol=tol, progress=progress)
    return _certified(fit, queries, rows, found)


def retrain(
    fit: ShallowFit, queries: Queries, *, rows: Array | None = None, progress: Progress = iter
) -> ShallowLeaveOneOut:
    """The minimum that training from the fit's own start reaches without point i: the second truth.

    A network may land in another basin than `leave_one_out`; `left_basin` counts that.
    """
    rows = _rows(fit, rows)
    n = len(fit.outputs)

    def solutions() -> Iterator[Array | ConvergenceError]:
        for i in progress(rows):
            yield _attempt(partial(stationary_point, fit.objective, fit.start), without(n, int(i)))

    return _certified(fit, queries, rows, list(solutions()))


def left_basin(warm: ShallowLeaveOneOut, retrained: ShallowLeaveOneOut) -> Array:
    """Rows (b,) whose two minima differ in some query's output by more than ten times their joint certificate."""
    gap = np.abs(warm.influence - retrained.influence)
    return np.any(gap > LEFT_BASIN * (warm.radius + retrained.radius), axis=1)


def without(n: int, i: int) -> Array:
    """Sample weights (n,) that leave out point i."""
    weights = np.ones(n)
    weights[i] = 0.0
    return weights


def descend(
    objective: Objective, theta: Array, solve: Solve, rows: Array, *, tol: float, progress: Progress = iter
) -> list[Array | ConvergenceError]:
    """Leave-one-out minimisers by descent from θ (p,), the full fit, whose inverse Hessian is `solve`."""
    n = objective.outputs.shape[0]
    found: list[Array | ConvergenceError] = []
    bar = iter(progress(rows))
    for block in np.split(rows, range(objective.batch, len(rows), objective.batch)):
        weights = np.stack([without(n, int(i)) for i in block])
        descent = newton_cg(objective, np.tile(theta, (len(block), 1)), weights, solve, tol=tol)
        for at, mask, usable in zip(descent.theta, weights, descent.converged, strict=True):
            next(bar)
            found.append(at if usable else _attempt(partial(trust_region, objective, at), mask))
    return found


def _attempt(solver: Callable[[Array], Array], weights: Array) -> Array | ConvergenceError:
    try:
        return solver(weights)
    except ConvergenceError as error:
        return error


def _rows(fit: ShallowFit, rows: Array | None) -> Array:
    n = len(fit.outputs)
    rows = np.arange(n) if rows is None else np.asarray(rows)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or np.any((rows < 0) | (rows >= n)):
        raise ValueError(f"rows must be point numbers in 0 … {n - 1}, got {rows!r}")
    return rows


def _certified(
    fit: ShallowFit, queries: Queries, rows: Array, found: list[Array | ConvergenceError]
) -> ShallowLeaveOneOut:
    n, b, q = len(fit.outputs), len(rows), queries.count
    theta = np.full((b, fit.theta.size), np.nan)
    radius, distance = np.full((b, q), np.inf), np.full(b, np.inf)
    gradient, smallest = np.full(b, np.nan), np.full(b, np.nan)
    unresolved: dict[int, str] = {}
    own = query_error(fit.objective, queries, fit.theta, np.ones(n), fit.certificate) + queries.rounding(fit.theta)
    for k, (i, at) in enumerate(zip(map(int, rows), found, strict=True)):
        at, certificate = _settled(fit.objective, at, without(n, i))
        if isinstance(at, ConvergenceError) or certificate is None:
            unresolved[i] = f"leaving out point {i}: {at}"
            continue
        gradient[k], smallest[k] = certificate.gradient_norm, certificate.smallest_eigenvalue
        theta[k] = at
        if np.isfinite(certificate.radius):
            radius[k] = query_error(fit.objective, queries, at, without(n, i), certificate) + own
            radius[k] += queries.rounding(at)
            distance[k] = np.linalg.norm(at - fit.theta) + certificate.radius + fit.certificate.radius
        else:
            unresolved[i] = f"leaving out point {i}: the premise of the certificate fails"
    influence = queries.value(fit.theta[None]) - queries.value(theta)
    return ShallowLeaveOneOut(rows, influence, radius, distance, gradient, smallest, unresolved, theta)


def _settled(
    objective: Objective, at: Array | ConvergenceError, weights: Array
) -> tuple[Array | ConvergenceError, Certificate | None]:
    """A point with its certificate; a saddle is left downhill first."""
    if isinstance(at, ConvergenceError):
        return at, None
    certificate = certify(objective, at, weights)
    if certificate.smallest_eigenvalue > 0:
        return at, certificate
    below = _attempt(partial(trust_region, objective, at), weights)
    return (below, None) if isinstance(below, ConvergenceError) else (below, certify(objective, below, weights))
