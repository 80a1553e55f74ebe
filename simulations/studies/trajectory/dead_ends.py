"""Attempts where no estimate holds, large learning rates and long runs, at the cost of twenty retrainings."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.workloads.training_runs import Setting, setting
from trak_theory.numerics.agreement import agreement
from trak_theory.trajectory import MLP, AdamW, Run, attribute, retrain_without, train
from trak_theory.trajectory.proxies import most_influential

N, SIZE, DECAY = 200, 20, 0.01
RETRAINED, JITTERED, JITTER = 20, 4, 0.01
PENALTY = 10.0  # of the fitted weights, whose inputs have unit mean square
VIEWS: dict[str, dict[str, Any]] = {
    "two-step": {},
    "frozen push": {"estimator": "frozen-push"},
    "Hessian damped by .9": {"damping": 0.9},
    "Hessian damped by .8": {"damping": 0.8},
    "Gauss–Newton": {"curvature": "ggn"},
}


def run(params: Params, rng: Generator) -> Rows:
    """One AdamW run: agreement of every idea with the truth, and the extra training runs that it costs."""
    starting, shaking, choosing = rng.spawn(3)
    problem = setting("digits", n=N, rng=starting)
    optimizer = AdamW(float(params["learning_rate"]), weight_decay=DECAY)
    trained = problem.train(optimizer, size=SIZE, steps=int(params["steps"]), rng=starting)
    exact = retrain_without(trained, np.arange(N)[:, None]).influence(problem.query)
    views = {name: attribute(trained, problem.query, **view).influence for name, view in VIEWS.items()}
    ideas = {name: (view, 0) for name, view in views.items()}
    ideas["mean of jittered runs"] = (_jittered(problem, trained, shaking), JITTERED)
    base = views["frozen push"]
    orders = {"largest": most_influential(base)[:RETRAINED], "random": choosing.permutation(N)[:RETRAINED]}
    for order, chosen in orders.items():
        ideas[f"{RETRAINED} {order} retrained"] = (_replaced(base, exact, chosen), RETRAINED)
        ideas[f"views weighted by {RETRAINED} {order}"] = (_weighted(list(views.values()), exact, chosen), RETRAINED)
    shared = {"n": N, "batch": SIZE, "p": trained.objective.p}
    return [
        {**shared, "idea": idea, "extra_runs": extra, **agreement(exact, estimate).row()}
        for idea, (estimate, extra) in ideas.items()
    ]


def _jittered(problem: Setting[MLP], trained: Run, rng: Generator) -> Array:
    """Mean attribution of runs whose start is 1 % off: does smoothing over paths help?"""
    start = trained.state(0)[0]
    starts = [start * (1 + JITTER * rng.standard_normal(start.shape)) for _ in range(JITTERED)]
    runs = [train(trained.objective, at, trained.batches, trained.optimizer) for at in starts]
    return np.mean([attribute(each, problem.query).influence for each in runs], axis=0)


def _replaced(estimate: Array, exact: Array, chosen: Array) -> Array:
    mixed = estimate.copy()
    mixed[chosen] = exact[chosen]
    return mixed


def _weighted(views: list[Array], exact: Array, chosen: Array) -> Array:
    """The linear combination of all views that fits the retrained samples (ridge regression), and these replaced."""
    inputs = np.concatenate(views, axis=1)
    inputs = inputs / np.sqrt(np.mean(inputs**2, axis=0))
    rows = inputs[chosen]
    weights = np.linalg.solve(rows.T @ rows + PENALTY * np.eye(rows.shape[1]), rows.T @ exact[chosen])
    return _replaced(inputs @ weights, exact, chosen)


STUDY = Study(
    name="dead_ends",
    summary="Where estimates fail, damping, smoothing and fitting do not help; retraining the largest does.",
    run=run,
    quick=grid(learning_rate=[0.03], steps=[60], replicate=range(3)),
    full=[
        *grid(learning_rate=[0.03], steps=[60], replicate=range(20)),
        *grid(learning_rate=[0.01], steps=[300], replicate=range(20)),
    ],
    seconds=lambda params: 2 if params["steps"] == 60 else 9,
)
