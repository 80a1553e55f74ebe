"""Trajectory attribution and batched retraining against the training run itself, side by side."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from time import process_time
from typing import Any

import numpy as np
import typer

from simulations.benchmarks.timing import side_by_side, timed
from simulations.workloads.training_runs import Setting, setting
from trak_theory.trajectory import MLP, AdamW, Run, attribute, retrain_without, train

N, SIZE, QUERIES, LOOPED = 200, 20, 32, 20
HEADER = "| what | time | × numpy training run | × torch.optim loop |\n|---|---|---|---|"


def table(steps: int, repeats: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = setting("digits", n=N, rng=rng)
    run = problem.train(AdamW(3e-3), size=SIZE, steps=steps, rng=rng)
    typer.echo(f"\nnumpy, float64: n = {N}, |B| = {SIZE}, T = {steps}, p = {run.objective.p}\n\n{HEADER}")
    for line in measure(problem, run, repeats):
        typer.echo(line)


def measure(problem: Setting[MLP], run: Run, repeats: int) -> list[str]:
    start, everyone = run.state(0)[0], np.arange(N)[:, None]
    replayed = train(run.objective, start, run.batches, run.optimizer, every=8)
    queries, many = problem.query, problem.queries(QUERIES)
    work: dict[str, tuple[Any, float]] = {
        "training run": (lambda: train(run.objective, start, run.batches, run.optimizer), 1.0),
    }
    for name in ("first-order", "exact-push", "two-step", "frozen-push"):
        work[f"{name}, one query"] = (lambda name=name: attribute(run, queries, estimator=name), 1.0)
    work["two-step, one query, replay"] = (lambda: attribute(replayed, queries, estimator="two-step"), 1.0)
    work[f"first-order, {QUERIES} queries"] = (lambda: attribute(run, many, estimator="first-order"), 1.0)
    work[f"two-step, {QUERIES} queries"] = (lambda: attribute(run, many, estimator="two-step"), 1.0)
    work[f"truth, {N} samples, batched"] = (lambda: retrain_without(run, everyone), 1.0)
    work[f"truth, {N} samples, looped"] = (
        lambda: [retrain_without(run, [[sample]]) for sample in range(0, N, N // LOOPED)],
        N / LOOPED,
    )
    taken = side_by_side(*(task for task, _ in work.values()), repeats=repeats, clock=process_time)
    timings = {name: (timing, factor) for (name, (_, factor)), timing in zip(work.items(), taken, strict=True)}
    floor = timings["training run"][0].median
    torch_floor = timed(torch_loop(run), repeats=repeats, clock=process_time).median if find_spec("torch") else np.nan
    lines = []
    for name, (timing, factor) in timings.items():
        seconds = factor * timing.median
        by_torch = f"{seconds / torch_floor:.1f}" if np.isfinite(torch_floor) else "(no torch)"
        lines.append(f"| {name} | {1e3 * seconds:.1f} ms | {seconds / floor:.1f} | {by_torch} |")
    return lines


def torch_loop(run: Run) -> Any:
    """The same run as a plain torch.optim.AdamW loop on torch.nn modules."""
    torch: Any = import_module("torch")
    net: Any = run.objective
    features = torch.from_numpy(net.features)
    labels = torch.from_numpy(net.labels)
    batches = [torch.from_numpy(batch) for batch in run.batches]
    rate = run.step(0).lr
    torch.set_num_threads(1)

    def loop() -> None:
        layers: list[Any] = []
        for width, out in zip(net.widths[:-1], net.widths[1:], strict=True):
            layers += [torch.nn.Linear(width, out, dtype=torch.float64), torch.nn.Tanh()]
        model = torch.nn.Sequential(*layers[:-1])
        optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
        for batch in batches:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(features[batch]), labels[batch]).backward()
            optimizer.step()

    return loop
