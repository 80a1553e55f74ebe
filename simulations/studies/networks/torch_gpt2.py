"""Trajectory attribution of a small GPT-2 on English text: with and without a warm-up, over learning rates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.workloads.torch_runs import ESTIMATORS, trajectory_rows

if TYPE_CHECKING:
    from trak_theory.torch_bridge.settings.language import LanguageSetting
    from trak_theory.trajectory import Query, Run

WARM_UP_RATE = 3e-3
REMOVED = 20
DIFFERENCE = 1e-6
RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
STARTS = ("warm", "fresh moments", "scratch")
FULL = grid(start=STARTS, learning_rate=RATES, replicate=range(5))


def run(params: Params, rng: Generator) -> Rows:
    from trak_theory.torch_bridge.settings.language import gpt2

    return language_rows(gpt2(rng=rng), str(params["start"]), float(params["learning_rate"]), rng)


def language_rows(setting: LanguageSetting, start: str, learning_rate: float, rng: Generator) -> Rows:
    """Rows of one run of a small language model against retraining without REMOVED of its sequences.

    start   scratch: the model's random parameters; fresh moments: after the warm-up, with a new optimiser; warm: after
            the warm-up, with its optimiser. The warm-up has a learning rate of its own.
    """
    optimizer = setting.adamw(WARM_UP_RATE)
    if start != "scratch":
        setting.warm(optimizer)
    if start != "warm":
        optimizer = setting.adamw(learning_rate)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    trained = setting.train(optimizer, rng)
    removed = rng.permutation(trained.objective.n)[:REMOVED]
    rows = trajectory_rows(trained, setting.query, removed, {**ESTIMATORS, "hybrid": {"estimator": "hybrid"}})
    rows[-1] |= derivative_check(trained, setting.query, rows)
    return rows


def derivative_check(run: Run, query: Query, rows: Rows) -> dict[str, float]:
    """Relative distance of first order from the run's derivative in the weight of its largest sample.

    The derivative is that of central differences, and the whole run is repeated: where an estimate of first order
    fails though this holds, the fault is the expansion's, not the sweep's.
    """
    samples = {int(row["sample"]): float(row["first_order"]) for row in rows if row["part"] == "sample"}
    largest = max(samples, key=lambda sample: abs(samples[sample]))
    ends = [float(query.read(reweighted(run, largest, 1 + step))[0]) for step in (-DIFFERENCE, DIFFERENCE)]
    slope = (ends[1] - ends[0]) / (2 * DIFFERENCE)
    return {"derivative_error": abs(samples[largest] - slope) / abs(slope)}


def reweighted(run: Run, sample: int, factor: float) -> Any:
    """θ_T of the run in which one sample's weight is multiplied by a factor; 0 removes it."""
    state = run.state(0)
    for t, batch in enumerate(run.batches):
        weights = run.weights(t)
        weights[np.flatnonzero(batch == sample)] *= factor
        state = run.step(t)(state, run.objective.gradient(state[0], batch, weights))
    return state[0]


STUDY = Study(
    name="torch_gpt2",
    summary="GPT-2 on text: pushes rank as retraining does after a warm-up; from scratch every estimator gets worse.",
    run=run,
    quick=[
        *grid(start=["warm"], learning_rate=[1e-4], replicate=range(1)),
        *grid(start=["scratch"], learning_rate=[3e-3], replicate=range(1)),
    ],
    full=FULL,
    seconds=30,
    extra="torch",
)
