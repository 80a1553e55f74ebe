"""Peak memory of sweeps over torch runs, each in a fresh process, beside what was said of it."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from math import isqrt
from multiprocessing import get_context
from os import environ
from pathlib import Path
from tempfile import TemporaryDirectory

import typer

from trak_theory.trajectory import RunSizes, attribute, sweep_memory
from trak_theory.trajectory.sweep.push import Estimator

MIB = 2**20
LONG = (100_000, 1_000)  # parameters and steps of the run on disk
SMALL = 10_000  # parameters of a run that warms up
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # Linux
HEADER = "| p | T | checkpoints | what | peak | said | said/peak |\n|---|---|---|---|---|---|---|"


def table(p: int, steps: int, queries: int, seed: int) -> None:
    typer.echo(f"\nmemory beside model and samples, MiB; mlp, float32\n\n{HEADER}")
    if not CLEAR.exists():
        typer.echo("| (only Linux tells the peak of a process) | | | | | | |")
        return
    cases: list[tuple[int, int, bool, int, Estimator]] = [
        (p, steps, False, 1, "first-order"),
        (p, steps, False, 1, "two-step"),
        (p, steps, False, 1, "frozen-push"),
        (p, steps, True, 1, "two-step"),
        (p, steps, True, queries, "two-step"),
        (*LONG, True, 1, "frozen-push"),
    ]
    environ["MALLOC_MMAP_THRESHOLD_"] = "65536"  # else glibc keeps what is freed, and the peak is of that
    for case in dict.fromkeys(cases):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            peak, said = process.submit(peak_of, *case, seed).result()
        own, length, on_disk, count, estimator = case
        what = f"{estimator}, {count} {'query' if count == 1 else 'queries'}"
        place = "disk" if on_disk else "memory"
        typer.echo(f"| {own} | {length} | {place} | {what} | {peak:.0f} | {said:.0f} | {said / peak:.2f} |")


def peak_of(p: int, steps: int, on_disk: bool, queries: int, estimator: Estimator, seed: int) -> tuple[float, float]:
    """MiB at the peak of a sweep, its run's states included, and what was said of it."""
    from simulations.benchmarks.trajectory.on_torch import work_on

    small = work_on("mlp", SMALL, 2, seed)
    attribute(small.record(), small.query(queries), estimator=estimator)  # what torch loads on the way
    work = work_on("mlp", p, steps, seed)
    replace(work, batches=work.batches[:1]).train()  # the gradients that parameters keep
    before, every = _kibibytes("VmRSS"), isqrt(steps - 1) + 1
    with TemporaryDirectory() as folder:
        run = work.record(every, Path(folder) if on_disk else None)
        CLEAR.write_text("5")  # the peak starts anew: preflight computes in float64
        attribute(run, work.query(queries), estimator=estimator)
    said = sweep_memory(RunSizes.of(run), queries, estimator=estimator)
    return (_kibibytes("VmHWM") - before) / 1024, said / MIB


def _kibibytes(name: str) -> int:
    """VmRSS: what the process holds now; VmHWM: its peak."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])
