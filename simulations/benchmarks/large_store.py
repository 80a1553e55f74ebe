"""Time and memory of reading a large half-precision store, and of its Gram matrix."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Annotated, TypeVar

import numpy as np
import typer
from numpy.random import Generator
from threadpoolctl import threadpool_limits

from simulations.benchmarks.timing import machine
from trak_theory.auditing.stores import recognise
from trak_theory.numerics.gram import blocked_gram, gram_workers

ROWS = 5000  # written at a time
Result = TypeVar("Result")


def main(
    n: Annotated[int, typer.Option(help="Points.", min=1)] = 200_000,
    k: Annotated[int, typer.Option(help="Projected dimension.", min=1)] = 2048,
    jobs: Annotated[int, typer.Option(help="Threads of joblib that share the blocks in the last row.", min=1)] = 2,
) -> None:
    """A float16 store on disk: what `recognise` and `blocked_gram` take; one run each, BLAS on one thread."""
    with TemporaryDirectory() as name, threadpool_limits(1):
        path = Path(name)
        write(path, n, k, np.random.default_rng(0))
        typer.echo(f"{machine()}; n = {n}, k = {k}: {2 * n * k / 2**30:.2f} GiB of float16\n")
        typer.echo("| step | time | processor time | peak of its own memory |\n|---|---|---|---|")
        measured("recognise", lambda: recognise(path))
        rows = recognise(path).members[0].features
        alone = measured("blocked_gram", lambda: blocked_gram(rows))
        with gram_workers(jobs):
            shared = measured(f"blocked_gram, jobs = {jobs}", lambda: blocked_gram(rows))
        typer.echo(f"\nlargest difference between the two Gram matrices: {np.abs(shared - alone).max():g}")


def write(path: Path, n: int, k: int, rng: Generator) -> None:
    """A folder of .npy files in this project's own format."""
    rows = np.lib.format.open_memmap(path / "features.npy", "w+", np.float16, (n, k))
    for start in range(0, n, ROWS):
        rows[start : start + ROWS] = rng.standard_normal(rows[start : start + ROWS].shape, np.float32)
    rows.flush()
    np.save(path / "queries.npy", rng.standard_normal((4, k)).astype(np.float16))
    np.save(path / "residual.npy", -rng.random(n))


def measured(label: str, run: Callable[[], Result]) -> Result:
    """Its result; prints time, processor time, and bytes allocated at the peak, without pages of a mapped file."""
    tracemalloc.start()
    begun, start = perf_counter(), process_time()
    found = run()
    seconds, busy = perf_counter() - begun, process_time() - start
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    typer.echo(f"| {label} | {seconds:.1f} s | {busy:.1f} s | {peak / 2**20:.0f} MiB |")
    return found
