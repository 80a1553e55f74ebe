"""At which order each leave-one-out series goes wrong: in copies of the data, in n at fixed p/n, in the leverage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.workloads.data import gaussian_problem
from trak_theory.claims.expansions import SERIES, one_copy
from trak_theory.claims.problems import Case, replicated

COPIES = (4, 8, 16, 32)
SIZES = (50, 100, 200, 400)
BINS = 8  # of equally many points, by leverage
QUERIES = 20
RIDGE_PER_POINT = 0.01  # growing with n, as the Hessian does
SIGNAL = 0.75


def run(params: Params, rng: Generator) -> Rows:
    """One data set (one for each n at fixed p/n): the error of every series, and its log-log slope in `size`.

    copies        size m: 100 points, p = 5, each m times; one copy removed. The slope of the error ‖T − I‖
    proportional  size n, p = n/4. The slope of the relative error ‖T − I‖/‖I‖: negative where growing n helps
    leverage      size h: n = 400, p = 40, rows of uneven length, in bins of leverage. The slope of the relative
                  error of a point, over all points
    """
    return REGIMES[str(params["regime"])](str(params["loss"]), rng)


def copies(loss: str, rng: Generator) -> Rows:
    case = _case(loss, 100, 5, rng)
    data = case.fit.glm.features, case.fit.glm.targets, case.queries
    rows: Rows = []
    for step, count in enumerate(COPIES):
        many = replicated(loss, count, data, ridge=RIDGE_PER_POINT * len(case.fit.residual))
        exact = one_copy(many.exact().influence)
        rows += [_row(name, step, count, one_copy(estimate), exact) for name, estimate in _estimates(many).items()]
    return _with_slopes(rows, "error")


def proportional(loss: str, rng: Generator) -> Rows:
    rows: Rows = []
    for step, (n, child) in enumerate(zip(SIZES, rng.spawn(len(SIZES)), strict=True)):
        case = _case(loss, n, n // 4, child)
        exact = case.exact().influence
        rows += [_row(name, step, n, estimate, exact) for name, estimate in _estimates(case).items()]
    return _with_slopes(rows, "relative_error")


def leverage(loss: str, rng: Generator) -> Rows:
    case = _case(loss, 400, 40, rng, spread=0.5)
    exact, height = case.exact().influence, case.lin.leverage
    bins = np.array_split(np.argsort(height), BINS)
    rows: Rows = []
    for name, estimate in _estimates(case).items():
        relative = np.linalg.norm(estimate - exact, axis=1) / np.linalg.norm(exact, axis=1)
        slope = _slope(height, relative)
        for step, i in enumerate(bins):
            middle = float(np.exp(np.log(height[i]).mean()))
            rows.append({**_row(name, step, middle, estimate[i], exact[i]), "slope": slope})
    return rows


REGIMES: dict[str, Callable[[str, Generator], Rows]] = {
    "copies": copies,
    "proportional": proportional,
    "leverage": leverage,
}


def _case(loss: str, n: int, p: int, rng: Generator, *, spread: float = 0.0) -> Case:
    """A fitted Gaussian problem; each row is stretched by e^(spread · N(0, 1)), after its target was drawn."""
    problem = gaussian_problem(n=n, p=p, queries=QUERIES, loss=loss, ridge=RIDGE_PER_POINT * n, signal=SIGNAL, rng=rng)
    stretch = np.exp(spread * rng.standard_normal(n))
    glm = replace(problem, features=problem.features * stretch[:, None]).glm()
    return Case(glm.fit(), problem.queries)


def _estimates(case: Case) -> dict[str, Array]:
    """Every series that errs: newton and what follows it are exact for the squared loss."""
    exact_ones = {"newton", "newton with second-order term"} if case.fit.glm.loss.name == "squared" else set()
    return {name: series(case) for name, (series, _, _) in SERIES.items() if name not in exact_ones}


def _row(series: str, step: int, size: float, estimate: Array, exact: Array) -> dict[str, str | float]:
    error = float(np.linalg.norm(estimate - exact))
    return {
        "series": series,
        "step": step,
        "size": float(size),
        "error": error,
        "relative_error": error / float(np.linalg.norm(exact)),
    }


def _with_slopes(rows: Rows, measure: str) -> Rows:
    slopes = {}
    for name in dict.fromkeys(row["series"] for row in rows):
        chosen = [row for row in rows if row["series"] == name]
        slopes[name] = _slope(*(np.array([row[column] for row in chosen]) for column in ("size", measure)))
    return [{**row, "slope": slopes[row["series"]]} for row in rows]


def _slope(sizes: Array, errors: Array) -> float:
    return float(np.polyfit(np.log(sizes), np.log(errors), 1)[0])


_LOSSES = {
    "copies": ("logistic", "poisson"),
    "proportional": ("logistic", "poisson"),
    "leverage": ("squared", "logistic", "poisson"),
}


def _grid(replicates: int) -> list[Params]:
    return [
        params
        for regime, losses in _LOSSES.items()
        for params in grid(regime=[regime], loss=losses, replicate=range(replicates))
    ]


STUDY = Study(
    name="expansion_orders",
    summary="At which order each leave-one-out series goes wrong: in copies of the data, in n, in the leverage.",
    run=run,
    quick=_grid(5),
    full=_grid(100),
    seconds=0.1,
)
