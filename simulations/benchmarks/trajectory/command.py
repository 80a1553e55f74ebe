"""The command: one table on numpy, one for every torch model asked for."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import product
from typing import Annotated

import typer
from threadpoolctl import threadpool_limits

from simulations.benchmarks.timing import machine
from simulations.benchmarks.trajectory import on_numpy

TABLES = ("numpy", "mlp", "gpt2", "many", "memory")
MANY = 100_000  # parameters up to which the whole sweep over many queries is made beside the small ones
PARAMETERS = (9_000, 100_000, 1_000_000)


def main(
    table: Annotated[list[str], typer.Option(help=f"Of {', '.join(TABLES)}.")] = list(TABLES),  # noqa: B006
    parameters: Annotated[list[int], typer.Option(help="Sizes p of the torch models.")] = list(PARAMETERS),  # noqa: B006
    queries: Annotated[int, typer.Option(help="Queries of the rows with many.", min=1)] = 32,
    steps: Annotated[int, typer.Option(help="Steps T of the runs.", min=1)] = 60,
    repeats: Annotated[int, typer.Option(help="Counted runs of each; the median is shown.", min=1)] = 5,
    seed: Annotated[int, typer.Option(help="Seed of the data.")] = 0,
) -> None:
    """AdamW runs, one thread: processor time in multiples of one training run without recording.

    numpy: a 64-16-10 tanh network in float64. mlp, gpt2: torch modules in float32, against their own plain torch loop.
    Looped retraining is timed on 20 samples, extrapolated to n. many: the queries from sweeps of fewer rows, with the
    error that they say and the true one, over the mlp at every p up to 100,000. memory: peaks of sweeps over the mlp
    at the largest p, ⌈√T⌉ checkpoints, each in a process of its own, beside what `sweep_memory` says; and 1,000 steps
    of 100,000 parameters on disk.
    """
    if unknown := set(table) - set(TABLES):
        raise typer.BadParameter(f"no table {', '.join(sorted(unknown))}; choose of {', '.join(TABLES)}")
    typer.echo(f"{machine()}; processor time, medians of {repeats}")
    with threadpool_limits(1):
        if "numpy" in table:
            on_numpy.table(steps, repeats, seed)
        if find_spec("torch"):
            _on_torch(table, parameters, steps, queries, repeats, seed)


def _on_torch(table: list[str], parameters: list[int], steps: int, queries: int, repeats: int, seed: int) -> None:
    from simulations.benchmarks.trajectory import many, memory, on_torch

    for name, p in product([name for name in ("mlp", "gpt2") if name in table], parameters):
        on_torch.table(name, p, steps, queries, repeats, seed)
    for p in [p for p in parameters if p <= MANY and "many" in table]:
        many.table(p, steps, queries, repeats, seed)
    if "memory" in table:
        memory.table(max(parameters), steps, queries, seed)
