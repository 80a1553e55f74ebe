"""Errors of executing a sweep: precision, order of summation, checkpoint spacing with replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.workloads.training_runs import setting
from trak_theory.numerics.agreement import agreement
from trak_theory.trajectory import AdamW, Run, astype, attribute, retrain_without, train
from trak_theory.trajectory.optimizer.steps import State
from trak_theory.trajectory.states.training_step import advance
from trak_theory.trajectory.sweep.push import Estimator

N, SIZE, STEPS = 200, 20, 60
SPACINGS = (1, 8, 30)


def run(params: Params, rng: Generator) -> Rows:
    """One AdamW run in float64, and its sweep executed in other ways: distance to the float64 sweep of that run."""
    problem = setting("digits", n=N, rng=rng)
    optimizer = AdamW(float(params["learning_rate"]), eps=float(params["eps"]))
    exact = problem.train(optimizer, size=SIZE, steps=STEPS, rng=rng)
    estimator = cast(Estimator, params["estimator"])
    reference = attribute(exact, problem.query, estimator=estimator)
    truth = retrain_without(exact, np.arange(N)[:, None]).agreement(reference)
    rows = []
    with np.errstate(all="ignore"):
        for variant, executed in _executions(exact, rng):
            influence = attribute(executed, problem.query, estimator=estimator).influence
            finite = np.isfinite(influence).all()
            rows.append(
                {
                    "variant": variant,
                    "n": N,
                    "batch": SIZE,
                    "steps": STEPS,
                    "p": exact.objective.p,
                    "finite": bool(finite),
                    "truth_error": float(truth.relative_error),
                    **(agreement(reference.influence, influence).row() if finite else {}),
                }
            )
    return rows


def _executions(run: Run, rng: Generator) -> Iterator[tuple[str, Run]]:
    """Other executions of the same run, by name."""
    start, shuffled = run.state(0)[0], [rng.permutation(batch) for batch in run.batches]
    yield "float64, other order", train(run.objective, start, shuffled, run.optimizer)
    for precision in (np.float32, np.float16):
        yield f"{precision.__name__} sweep", astype(run, precision)
    for name, batches in (("float32 run", run.batches), ("float32 run, other order", shuffled)):
        yield name, train(run.objective, start.astype(np.float32), batches, run.optimizer)
    for name, rounded in ROUNDING.items():
        for every in SPACINGS:
            yield f"{name} checkpoints every {every}", replace(run, states=RoundedCheckpoints(run, rounded, every))


def _bfloat16(array: Array) -> Array:
    """Rounded to eight significant bits, the exponents of float32."""
    bits = array.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return rounded.astype(np.uint32).view(np.float32).astype(array.dtype)


ROUNDING: dict[str, Callable[[Array], Array]] = {
    "float64": lambda array: array,
    "float32": lambda array: array.astype(np.float32).astype(array.dtype),
    "bfloat16": _bfloat16,
    "float16": lambda array: array.astype(np.float16).astype(array.dtype),
}


@dataclass(frozen=True, eq=False)
class RoundedCheckpoints:
    """Every `every`-th state saved in a lower precision, the others replayed from it in the run's own."""

    run: Run
    rounded: Callable[[Array], Array]
    every: int

    def get(self, t: int) -> State:
        if t == self.run.steps:
            return self.run.states.get(t)
        first = t - t % self.every
        state = tuple(self.rounded(part) for part in self.run.states.get(first))
        for s in range(first, t):
            state = advance(self.run.objective, self.run.batches[s], self.run.optimizer, s, state)
        return state


STUDY = Study(
    name="system_level",
    summary="Precision, order of summation and checkpoint spacing: what the execution of a sweep costs.",
    run=run,
    quick=grid(estimator=["two-step"], learning_rate=[3e-3], eps=[1e-8], replicate=range(1)),
    full=grid(
        estimator=["first-order", "exact-push", "two-step", "frozen-push"],
        learning_rate=[1e-3, 3e-3, 1e-2],
        eps=[1e-8, 1e-4],
        replicate=range(10),
    ),
    seconds=7,
)
