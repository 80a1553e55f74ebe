"""Cost of each step from exact leave-one-out influence down to TRAK, in error and in rank."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.workloads.data import Problem, gaussian_problem, real_problem
from trak_theory import ladder
from trak_theory.loo.ladder import subset_models

QUERIES = 50
RIDGE = 1.0
ENSEMBLE = 10  # projections, and models on random halves of the data
# The slowest first, so that no worker is left alone with it at the end.
DATA = ("randhie", "breast_cancer", "digits_3_vs_8", "diabetes", "gaussian")


def run(params: Params, rng: Generator) -> Rows:
    """One random split of one data set: every rung against the exact influence and against the rung above it."""
    splitting, models, projecting = rng.spawn(3)
    problem = _problem(str(params["data"]), splitting)
    n, p = problem.features.shape
    k = max(1, round(float(params["k_over_p"]) * p))
    glm = problem.glm()
    climb = ladder(
        glm.fit(),
        problem.queries,
        k=k,
        ensemble=ENSEMBLE,
        models=subset_models(glm, problem.queries, count=ENSEMBLE, rng=models),
        rng=projecting,
    )
    truth = climb.truth
    scale = np.sqrt(np.nanmean(truth.influence**2, axis=0))
    shared = {
        "n": n,
        "p": p,
        "k": k,
        "queries": QUERIES,
        "ridge": RIDGE,
        "ensemble": ENSEMBLE,
        "truth_radius": float((truth.radius / scale).max()),
        "unresolved": len(truth.unresolved),
    }
    rows = [{**shared, **row, "unavailable": ""} for row in climb.table()]
    missing = [
        {**shared, "rung": rung, "against": "exact", "unavailable": reason}
        for rung, reason in climb.unavailable.items()
    ]
    return rows + missing


def _problem(name: str, rng: Generator) -> Problem:
    if name == "gaussian":
        return gaussian_problem(n=500, p=250, queries=QUERIES, loss="logistic", ridge=RIDGE, signal=2.0, rng=rng)
    return real_problem(name, queries=QUERIES, ridge=RIDGE, rng=rng)


STUDY = Study(
    name="ladder",
    summary="Cost of each step from exact leave-one-out influence down to TRAK, in error and in rank.",
    run=run,
    quick=grid(data=DATA[1:], k_over_p=[0.5], replicate=range(2)),
    full=grid(data=DATA, k_over_p=[0.25, 0.5, 0.75], replicate=range(20)),
    seconds=lambda params: 35 if params["data"] == "randhie" else 1,
)
