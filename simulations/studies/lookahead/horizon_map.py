"""The horizon that pays at each learning rate: K*(η) against random selection, with paired intervals."""

from __future__ import annotations

from typing import Any

from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.workloads.selection_setting import KEEP, Setting
from simulations.workloads.selection_tasks import setting
from trak_theory.trajectory import AdamW, Task

DECAY = 0.01
TO_THE_END = -1  # the horizon in the rows that reaches to the end of the run


def run(params: Params, rng: Generator) -> Rows:
    """One start and one stream of candidates: selection at every horizon, and random selection.

    longer_judge_loss, longer_test_loss: of random selection with the compute of that horizon.
    """
    problem = setting(str(params["setting"]), rng)
    steps, longest = int(params["steps"]), int(params["longest"])
    optimizer = AdamW(float(params["learning_rate"]), weight_decay=DECAY)
    task = problem.task(steps, rng)
    horizons = [0, *(2**k for k in range(longest.bit_length()) if 2**k <= longest)]
    rows = [{"horizon": horizon, **_row(problem, task, optimizer, horizon=horizon)} for horizon in horizons]
    rows.append({"horizon": TO_THE_END, **_row(problem, task, optimizer, horizon=None)})
    ends = task.longer(optimizer, [row["multiple"] for row in rows], keep=KEEP, rng=rng)
    for row, (_, stopped) in zip(rows, ends, strict=True):
        row["longer_judge_loss"] = task.judged(stopped)
        row["longer_test_loss"] = problem.mean_loss(stopped, problem.test)
    return [_row(problem, task, optimizer, policy="random", rng=rng), *rows]


def _row(problem: Setting, task: Task, optimizer: AdamW, **how: Any) -> dict[str, Any]:
    chosen = task.select(optimizer, keep=KEEP, **how)
    return {
        "policy": how.get("policy", "look-ahead"),
        "multiple": chosen.multiple,
        "judge_loss": task.judged(chosen.final),
        **problem.test_row(chosen.final),
    }


STUDY = Study(
    name="horizon_map",
    summary="The look-ahead horizon that pays at each learning rate, K*(η), with paired intervals.",
    run=run,
    quick=grid(
        setting=["digits_wrong_labels"], steps=[60], longest=[16], learning_rate=[1e-3, 1e-2], replicate=range(2)
    ),
    full=[
        *grid(
            setting=["digits_wrong_labels", "digits_domains"],
            steps=[60],
            longest=[16],
            learning_rate=[3e-4, 1e-3, 3e-3, 1e-2, 3e-2],
            replicate=range(10),
        ),
        *grid(
            setting=["mnist_wrong_labels"],
            steps=[100],
            longest=[32],
            learning_rate=[1e-3, 3e-3, 1e-2],
            replicate=range(5),
        ),
    ],
    seconds=lambda params: 10 if params["steps"] == 60 else 60,
)
