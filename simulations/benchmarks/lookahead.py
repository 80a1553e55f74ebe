"""The price of a selected step: look-ahead at several horizons against a plain training step, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
import typer
from threadpoolctl import threadpool_limits

from simulations.benchmarks.timing import machine, side_by_side
from simulations.workloads.selection_setting import BATCH, KEEP, Setting
from simulations.workloads.selection_tasks import setting
from trak_theory.trajectory import AdamW, lookahead, loss_query, train
from trak_theory.trajectory.selection.select import Counted, lowest
from trak_theory.trajectory.states.training_step import advance
from trak_theory.trajectory.sweep.push import Estimator

STEPS = 16
ROUNDS = 20  # of plain steps, so that they take about as long as the others: a busy machine then slows both
HEADER = "| what | time of a step | × plain step | × in sample gradients |\n|---|---|---|---|"
Work = Callable[[], float]  # its cost in sample gradients
SCORED: dict[str, tuple[list[int], Estimator]] = {
    "K = 0, SGD geometry": ([0], "sgd"),
    "K = 0": ([0], "first-order"),
    "K = 1": ([1], "first-order"),
    "K = 4": ([4], "first-order"),
    "K = 16": ([16], "first-order"),
    "K = 0, two-step": ([0], "two-step"),
    "K = 4, two-step": ([4], "two-step"),
    "K = 0, 1, 4, 16 in one look-ahead": ([0, 1, 4, 16], "first-order"),
}


def main(
    name: Annotated[str, typer.Option("--setting", help="A setting of selection_tasks.")] = "digits_wrong_labels",
    repeats: Annotated[int, typer.Option(help="Counted runs of each; the median is shown.", min=1)] = 5,
    seed: Annotated[int, typer.Option(help="Seed of the data.")] = 0,
) -> None:
    """Choose half of 40 candidates and train on them, against training on 20 samples; AdamW, one thread."""
    with threadpool_limits(1):
        rng = np.random.default_rng(seed)
        problem = setting(name, rng)
        typer.echo(
            f"{machine()}; {name}, p = {problem.objective.p}, {BATCH} candidates, {len(problem.validation)} validation "
            f"samples; medians of {repeats} times {STEPS} steps\n"
        )
        typer.echo(HEADER)
        for line in measure(problem, rng, repeats):
            typer.echo(line)


def measure(problem: Setting, rng: np.random.Generator, repeats: int) -> list[str]:
    batches = problem.stream(STEPS + max(max(horizons) for horizons, _ in SCORED.values()), rng)
    work = {"plain step": _steps(problem, batches, [], "first-order")}
    work |= {what: _steps(problem, batches, horizons, estimator) for what, (horizons, estimator) in SCORED.items()}
    steps = {what: STEPS * (ROUNDS if what == "plain step" else 1) for what in work}
    timings = dict(zip(work, side_by_side(*work.values(), repeats=repeats), strict=True))
    seconds = {what: timing.median / steps[what] for what, timing in timings.items()}
    costs = {what: task() / steps[what] for what, task in work.items()}
    floor, plain = seconds["plain step"], costs["plain step"]
    return [
        f"| {what} | {1e3 * seconds[what]:.2f} ms | {seconds[what] / floor:.1f} | {costs[what] / plain:.1f} |"
        for what in work
    ]


def _steps(problem: Setting, batches: list[np.ndarray], horizons: Sequence[int], estimator: Estimator) -> Work:
    """STEPS steps along the run on all candidates: score those of each step, and train one step on the chosen half."""
    optimizer, size = AdamW(3e-3), round(KEEP * BATCH)
    run = train(problem.objective, problem.start, batches, optimizer)
    states = [run.state(t) for t in range(STEPS)]

    def steps() -> float:
        counted = Counted(problem.objective)
        query = loss_query(counted, problem.validation, mean=True)
        for t, state in [*enumerate(states)] * (1 if horizons else ROUNDS):
            kept = batches[t][:size]
            if horizons:
                found = lookahead(
                    counted, batches[t:], query, optimizer, state, first=t, horizons=horizons, estimator=estimator
                )
                kept = lowest(batches[t], found.influence[0], size)
            advance(counted, kept, optimizer, t, state)
        return counted.cost

    return steps
