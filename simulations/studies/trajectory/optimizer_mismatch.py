"""Fidelity of the SGD formula on runs of other optimisers, beside each optimiser's own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.workloads.training_runs import setting
from trak_theory.trajectory import SGD, Adam, AdamW, Lion, Muon, Optimizer, attribute, retrain_without
from trak_theory.trajectory.sweep.push import Estimator

N, SIZE, STEPS = 200, 20, 60
MATRICES = ((16, 64), (16, 1), (10, 16), (10, 1))  # of the network, its biases as columns
# name → the optimiser at step size 1; a rate multiplies it, larger or smaller for the same progress.
OPTIMIZERS: dict[str, tuple[Optimizer, float]] = {
    "sgd": (SGD(1.0), 50.0),
    "sgd_momentum": (SGD(1.0, momentum=0.9), 5.0),
    "adam": (Adam(1.0), 1.0),
    "adamw": (AdamW(1.0, weight_decay=0.01), 1.0),
    "muon": (Muon(1.0, shapes=MATRICES), 5.0),
    "lion": (Lion(1.0), 0.3),
}
FORMULAS: tuple[Estimator, ...] = ("sgd", "first-order", "exact-push", "two-step", "frozen-push")


def run(params: Params, rng: Generator) -> Rows:
    """One run of one optimiser: every formula against retraining without each of the n samples."""
    problem = setting("digits", n=N, rng=rng)
    optimizer, scale = OPTIMIZERS[str(params["optimizer"])]
    rate = scale * float(params["rate"])
    trained = problem.train(replace(optimizer, schedule=lambda t: rate), size=SIZE, steps=STEPS, rng=rng)
    truth = retrain_without(trained, np.arange(N)[:, None])
    return [
        {
            "formula": formula,
            "learning_rate": rate,
            "n": N,
            "batch": SIZE,
            "steps": STEPS,
            "p": trained.objective.p,
            **truth.agreement(attribute(trained, problem.query, estimator=formula)).row(),
        }
        for formula in FORMULAS
    ]


STUDY = Study(
    name="optimizer_mismatch",
    summary="The SGD formula loses the ranks of an Adam run that the optimiser's own formula keeps.",
    run=run,
    quick=[
        *grid(optimizer=["adam", "adamw"], rate=[1e-3, 1e-2], replicate=range(2)),
        *grid(optimizer=["sgd", "muon"], rate=[1e-3], replicate=range(1)),
    ],
    full=grid(optimizer=OPTIMIZERS, rate=[1e-3, 3e-3, 1e-2, 3e-2], replicate=range(10)),
    seconds=1.6,
)
