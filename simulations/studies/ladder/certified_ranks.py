"""Share of the order of the training points that one, two or three pairs of products prove."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.workloads.data import Problem, gaussian_problem, real_problem
from trak_theory import agreement, leave_one_out, newton
from trak_theory.loo.certified_order import certified_order
from trak_theory.loo.intervals import newton_interval

QUERIES = 40
SIGNAL = 2.0
CHORD_STEPS = (0, 1, 2)

# Each axis of the synthetic data moves alone, from here.
CENTRE: dict[str, Any] = {"size": 400, "p_over_n": 0.1, "ridge": 1.0}
AXES = {
    "size": (100, 200, 400, 800, 1600),
    "p_over_n": (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0),
    "ridge": (0.01, 0.1, 1.0, 10.0, 100.0),
}
REAL = ("breast_cancer", "digits_3_vs_8")


def run(params: Params, rng: Generator) -> Rows:
    """One data set: certified intervals after each number of chord steps, against the exact influence."""
    problem = _problem(params, rng)
    fit = problem.glm().fit()
    truth, estimate = leave_one_out(fit, problem.queries), newton(fit.linearize(problem.queries))
    kendall = agreement(truth.influence, estimate).kendall
    n, p = problem.features.shape
    rows = []
    for steps in CHORD_STEPS:
        interval = newton_interval(fit, problem.queries, chord_steps=steps)
        outside = np.abs(truth.influence - interval.center) > interval.radius + truth.radius
        order = certified_order(interval, estimate)
        known = np.isfinite(interval.radius)
        relative = np.divide(interval.radius, np.abs(interval.center), out=np.full(known.shape, np.inf), where=known)
        rows.append(
            {
                "n": n,
                "p": p,
                "queries": QUERIES,
                "chord_steps": steps,
                "pairs_proved": float(order.proved),
                "pairs_proved_se": order.proved.se,
                "kendall_at_least": float(order.kendall),
                "kendall_at_least_se": order.kendall.se,
                "kendall": float(kendall),
                "relative_radius": float(np.median(relative)),
                "void": len(interval.unresolved) / n,
                "outside": int(outside.sum()),
            }
        )
    return rows


def _problem(params: Params, rng: Generator) -> Problem:
    name, ridge = str(params["data"]), float(params["ridge"])
    if name != "gaussian":
        return real_problem(name, queries=QUERIES, ridge=ridge, rng=rng)
    n = int(params["size"])
    p = round(float(params["p_over_n"]) * n)
    return gaussian_problem(n=n, p=p, queries=QUERIES, loss="logistic", ridge=ridge, signal=SIGNAL, rng=rng)


def _cells(replicates: int) -> list[Params]:
    real = grid(data=REAL, ridge=AXES["ridge"], replicate=range(replicates))
    moved = [CENTRE, *(CENTRE | {axis: value} for axis, values in AXES.items() for value in values)]
    synthetic = {tuple(place.items()): place for place in moved}.values()
    return real + [{"data": "gaussian", **place, "replicate": r} for place in synthetic for r in range(replicates)]


STUDY = Study(
    name="certified_ranks",
    summary="The share of pairs of points whose order certified intervals prove, against n, p/n and ridge.",
    run=run,
    quick=_cells(1),
    full=_cells(20),
    seconds=0.4,
)
