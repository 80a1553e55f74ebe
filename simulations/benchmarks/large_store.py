"""Time and memory of reading a large half-precision store, and of its Gram matrix."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Annotated

import numpy as np
import typer
from numpy.random import Generator
from threadpoolctl import threadpool_limits

from simulations.benchmarks.timing import machine
from trak_theory.auditing.stores import recognise
from trak_theory.numerics.gram import blocked_gram

ROWS = 5000  # written at a time


def main(
    n: Annotated[int, typer.Option(help="Points.", min=1)] = 200_000,
    k: Annotated[int, typer.Option(help="Projected dimension.", min=1)] = 2048,
) -> None:
    """A float16 store on disk: what `recognise` and `blocked_gram` take; one thread, one run each."""
    with TemporaryDirectory() as name, threadpool_limits(1):
        path = Path(name)
        write(path, n, k, np.random.default_rng(0))
        typer.echo(f"{machine()}; n = {n}, k = {k}: {2 * n * k / 2**30:.2f} GiB of float16\n")
        typer.echo("| step | processor time | peak of its own memory |\n|---|---|---|")
        store = recognise(path)
        assert store.features is not None
        for label, run in (
            ("recognise", lambda: recognise(path)),
            ("blocked_gram", lambda: blocked_gram(store.features)),
        ):
            seconds, peak = measured(run)
            typer.echo(f"| {label} | {seconds:.1f} s | {peak / 2**20:.0f} MiB |")


def write(path: Path, n: int, k: int, rng: Generator) -> None:
    """A folder of .npy files in this project's own format."""
    rows = np.lib.format.open_memmap(path / "features.npy", "w+", np.float16, (n, k))
    for start in range(0, n, ROWS):
        rows[start : start + ROWS] = rng.standard_normal(rows[start : start + ROWS].shape, np.float32)
    rows.flush()
    np.save(path / "queries.npy", rng.standard_normal((4, k)).astype(np.float16))
    np.save(path / "residual.npy", -rng.random(n))


def measured(run: Callable[[], object]) -> tuple[float, int]:
    """Seconds of processor time, and bytes allocated at the peak; pages of a mapped file are not counted."""
    tracemalloc.start()
    start = process_time()
    run()
    seconds = process_time() - start
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return seconds, peak
