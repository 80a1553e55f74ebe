"""Limits of trajectory influence: learning rate against number of steps, family by family."""

from __future__ import annotations

from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.workloads.training_runs import setting
from trak_theory.trajectory import AdamW, attribute, retrain_without
from trak_theory.trajectory.sweep.push import Estimator

N, SIZE, DECAY = 200, 20, 0.01
REMOVED = 100
ESTIMATORS: tuple[Estimator, ...] = ("first-order", "exact-push", "two-step", "frozen-push")
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)


def run(params: Params, rng: Generator) -> Rows:
    """One AdamW run: every estimator against retraining without each of REMOVED random samples."""
    problem = setting(str(params["family"]), n=N, rng=rng)
    rate, steps = float(params["learning_rate"]), int(params["steps"])
    trained = problem.train(AdamW(rate, weight_decay=DECAY), size=SIZE, steps=steps, rng=rng)
    removed = rng.choice(N, REMOVED, replace=False)
    truth = retrain_without(trained, removed[:, None])
    shared = {"n": N, "batch": SIZE, "removed": REMOVED, "p": trained.objective.p}
    return [
        {**shared, "estimator": name, **truth.agreement(attribute(trained, problem.query, estimator=name)).row()}
        for name in ESTIMATORS
    ]


STUDY = Study(
    name="learning_rate_and_length",
    summary="The error of trajectory influence grows with the learning rate and with the number of steps.",
    run=run,
    quick=[
        *grid(family=["digits"], steps=[60], learning_rate=[1e-3, 1e-2, 3e-2], replicate=range(3)),
        *grid(family=["digits"], steps=[20, 180], learning_rate=[1e-2], replicate=range(3)),
    ],
    full=grid(
        family=["digits", "digits_deep", "digits_linear", "breast_cancer", "mnist"],
        steps=[20, 60, 180, 540],
        learning_rate=RATES,
        replicate=range(8),
    ),
    seconds=lambda params: float(params["steps"]) * (0.1 if params["family"] == "mnist" else 0.015),
)
