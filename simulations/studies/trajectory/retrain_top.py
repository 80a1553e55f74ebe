"""Gain of a few retrainings where no estimate holds: of the largest, the least certain, or random samples."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.workloads.training_runs import setting
from trak_theory.numerics.agreement import agreement
from trak_theory.trajectory import AdamW, attribute, retrain_without
from trak_theory.trajectory.proxies import most_influential
from trak_theory.trajectory.sweep.push import Estimator

N, SIZE, STEPS, DECAY = 200, 20, 60, 0.01
COUNTS = (0, 5, 10, 20, 40, 80)


def run(params: Params, rng: Generator) -> Rows:
    """One AdamW run: agreement with the truth when m of n estimates are replaced by it, m in COUNTS."""
    problem = setting("digits", n=N, rng=rng)
    rate, estimator = float(params["learning_rate"]), cast(Estimator, params["estimator"])
    trained = problem.train(AdamW(rate, weight_decay=DECAY), size=SIZE, steps=STEPS, rng=rng)
    exact = retrain_without(trained, np.arange(N)[:, None]).influence(problem.query)
    attribution = attribute(trained, problem.query, estimator=estimator)
    orders = {
        "largest": most_influential(attribution.influence),
        "least certain": most_influential(attribution.proxy),
        "random": rng.permutation(N),
    }
    rows = []
    for order, samples in orders.items():
        for m in COUNTS:
            mixed = attribution.influence.copy()
            mixed[samples[:m]] = exact[samples[:m]]
            shared = {"n": N, "batch": SIZE, "steps": STEPS, "p": trained.objective.p}
            rows.append({**shared, "order": order, "retrained": m, **agreement(exact, mixed).row()})
    return rows


STUDY = Study(
    name="retrain_top",
    summary="At large learning rates retraining the top tenth repairs much of the error; random retrainings do not.",
    run=run,
    quick=grid(learning_rate=[3e-2], estimator=["frozen-push"], replicate=range(8)),
    full=grid(learning_rate=[1e-2, 3e-2], estimator=["first-order", "two-step", "frozen-push"], replicate=range(20)),
    seconds=1,
)
