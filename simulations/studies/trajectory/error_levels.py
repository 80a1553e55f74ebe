"""The error budget of trajectory influence, level by level, against learning rate and number of steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.workloads.training_runs import setting
from trak_theory.numerics.agreement import agreement
from trak_theory.trajectory import AdamW, Run, attribute, error_levels, retrain_without
from trak_theory.trajectory.convention import Removal

N, SIZE = 200, 20
DECAY = 0.1


def run(params: Params, rng: Generator) -> Rows:
    """One AdamW run with a decaying rate: the descent of levels, and each wrong configuration on its own."""
    problem = setting("digits", n=N, rng=rng)
    rate, steps = float(params["learning_rate"]), int(params["steps"])
    optimizer = AdamW(rate, weight_decay=DECAY, schedule=Cosine(steps))
    trained = problem.train(optimizer, size=SIZE, steps=steps, rng=rng)
    truth = retrain_without(trained, np.arange(N)[:, None])
    levels = error_levels(truth, problem.query)
    exact, best = levels.levels["truth"], levels.levels["frozen push"]
    shared: dict[str, float | str] = {"n": N, "batch": SIZE, "p": trained.objective.p}
    rows = [{**shared, "kind": "descent", **row} for row in levels.table()]
    for name, view, removal in _misconfigured(trained):
        wrong = attribute(view, problem.query, estimator="frozen-push", removal=removal).influence
        gap = float(np.linalg.norm(wrong - best) / np.linalg.norm(exact))
        measures = agreement(exact, wrong).row()
        label: dict[str, float | str] = {"level": name, "against": "truth", "source": "config", "gap": gap}
        rows.append({**shared, "kind": "single", **label, **measures})
    return rows


class Cosine:
    """Half a cosine from 1 to 0 over the run."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __call__(self, t: int) -> float:
        return 0.5 * (1 + float(np.cos(np.pi * t / self.steps)))


def _misconfigured(run: Run) -> list[tuple[str, Run, Removal]]:
    """One wrong assumption each; its gap is the distance to the estimate that assumes all rightly."""
    optimizer = run.optimizer
    return [
        ("constant rate", replace(run, optimizer=replace(optimizer, schedule=None)), "keep"),
        ("no weight decay", replace(run, optimizer=replace(optimizer, weight_decay=0.0)), "keep"),
        ("other removal", run, "renormalise"),
    ]


STUDY = Study(
    name="error_levels",
    summary="Where the error of trajectory influence comes from: algorithm, configuration or system.",
    run=run,
    quick=[
        *grid(learning_rate=[1e-3], steps=[60], replicate=range(3)),
        *grid(learning_rate=[3e-3, 1e-2, 3e-2], steps=[60], replicate=range(1)),
    ],
    full=grid(learning_rate=[1e-3, 3e-3, 1e-2, 3e-2], steps=[20, 60, 180], replicate=range(10)),
    seconds=2.6,
)
