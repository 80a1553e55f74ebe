"""Many queries from a sweep of few rows: what it costs, what it says that it loses, and what it loses."""

from __future__ import annotations

from functools import partial
from time import process_time

import numpy as np
import typer
from scipy.stats import spearmanr

from simulations.benchmarks.timing import side_by_side
from simulations.benchmarks.trajectory.on_torch import work_on
from trak_theory.trajectory import attribute, attribute_many

COLUMNS = "| rank | rows | × training run | relative error said | true | Spearman, median and worst query |"
HEADER = f"{COLUMNS}\n|---|---|---|---|---|---|"


def table(p: int, steps: int, queries: int, repeats: int, seed: int) -> None:
    """Two-step on the tanh network; the last row is the whole sweep."""
    work = work_on("mlp", p, steps, seed)
    run, query = work.record(), work.query(queries)
    ranks = sorted({max(1, queries // part) for part in (8, 4, 2)})
    sweeps = [
        partial(attribute_many, run, query, rank=rank, estimator="two-step", rng=np.random.default_rng(seed))
        for rank in ranks
    ]
    whole = partial(attribute, run, query, estimator="two-step")
    floor, *timings = side_by_side(work.train, *sweeps, whole, repeats=repeats, clock=process_time)
    times = [f"{timing.median / floor.median:.1f}" for timing in timings]
    typer.echo(f"\n{queries} queries, two-step, p = {work.objective.p}, T = {steps}\n\n{HEADER}")
    true = whole().influence
    for rank, sweep, time in zip(ranks, sweeps, times, strict=False):
        many, size = sweep(), np.linalg.norm(true)
        lost = np.linalg.norm(many.influence - true) / size
        ranked = [spearmanr(own, other).statistic for own, other in zip(many.influence.T, true.T, strict=True)]
        said = f"{many.error / size:.3f} ± {many.error_se / size:.3f}"
        agreed = f"{np.median(ranked):.3f}, {min(ranked):.3f}"
        typer.echo(f"| {rank} | {many.rows} | {time} | {said} | {lost:.3f} | {agreed} |")
    typer.echo(f"| all | {queries} | {times[-1]} | | | |")
