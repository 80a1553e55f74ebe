"""Cost of comparing an estimate of one removal convention with the truth of the other."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.workloads.training_runs import setting
from trak_theory.numerics.agreement import agreement
from trak_theory.trajectory import AdamW, attribute, retrain_without
from trak_theory.trajectory.convention import Removal

N, EPOCHS, RATE, DECAY = 192, 3, 1e-3, 0.01
REMOVALS: tuple[Removal, ...] = ("keep", "renormalise")


def run(params: Params, rng: Generator) -> Rows:
    """One AdamW run: both truths, both estimates, all four pairs, and the truths against each other."""
    size = int(params["batch"])
    problem = setting("digits", n=N, rng=rng)
    trained = problem.train(AdamW(RATE, weight_decay=DECAY), size=size, steps=EPOCHS * N // size, rng=rng)
    everyone = np.arange(N)[:, None]
    truths = {
        removal: retrain_without(trained, everyone, removal=removal).influence(problem.query) for removal in REMOVALS
    }
    estimates = {removal: attribute(trained, problem.query, removal=removal).influence for removal in REMOVALS}
    shared = {"n": N, "steps": trained.steps, "learning_rate": RATE}
    rows = [
        {**shared, "truth": true, "estimate": used, **agreement(truths[true], estimates[used]).row()}
        for true, used in product(REMOVALS, REMOVALS)
    ]
    return [*rows, {**shared, "truth": "keep", "estimate": "truth", **agreement(*truths.values()).row()}]


STUDY = Study(
    name="removal_convention",
    summary="Mixing the two removal conventions is an error of its own, larger for smaller batches.",
    run=run,
    quick=grid(batch=[8, 64], replicate=range(5)),
    full=grid(batch=[4, 8, 16, 32, 64], replicate=range(10)),
    seconds=0.8,
)
