"""Time and memory of a large store: reading it, its Gram matrix, and the whole audit in a process of limited memory."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time, sleep
from typing import Annotated, TypeVar

import numpy as np
import typer
from numpy.random import Generator
from threadpoolctl import threadpool_limits

from simulations.benchmarks.timing import machine, side_by_side
from trak_theory.auditing.stores import recognise
from trak_theory.numerics.gram import blocked_gram, gram_workers
from trak_theory.numerics.rows import ChunkedRows

ENTRIES = 2**23  # written at a time
LIMIT = 2.0  # GiB of memory of the whole audit of projected rows
LIMIT_UNPROJECTED = 16.0
DIMENSION = 2048  # stated for scores of unprojected gradients
MANY = 1_000_000  # points that the limit is meant for
Result = TypeVar("Result")

ONCE_HELP = "Only one audit, with these jobs: for stores of several GiB."
UNPROJECTED_HELP = "The rows are whole gradients in single precision, k of them; only the audit is measured."


def main(
    n: Annotated[int, typer.Option(help="Points.", min=1)] = 200_000,
    k: Annotated[int, typer.Option(help="Width of a row: projected dimension, or p.", min=1)] = 2048,
    q: Annotated[int, typer.Option(help="Queries.", min=1)] = 10,
    jobs: Annotated[int, typer.Option(help="Threads of joblib that share the blocks.", min=1)] = 2,
    repeats: Annotated[int, typer.Option(help="Gram matrices on one thread and on several, in turn.", min=1)] = 3,
    unprojected: Annotated[bool, typer.Option("--unprojected", help=UNPROJECTED_HELP)] = False,
    once: Annotated[bool, typer.Option("--once", help=ONCE_HELP)] = False,
) -> None:
    """A store on disk: what reading, Gram matrix and audit take; BLAS on one thread."""
    with TemporaryDirectory() as name, threadpool_limits(1):
        path = Path(name) / "store"
        path.mkdir()
        write(path, (n, k, q), np.float32 if unprojected else np.float16, np.random.default_rng(0))
        kind = "single precision, not projected" if unprojected else "half precision, projected"
        size = (path / "features.npy").stat().st_size
        typer.echo(f"{machine()}; n = {n}, width {k}, q = {q}: {size / 2**30:.2f} GiB, {kind}\n")
        whole = not (unprojected or once)
        if whole:
            _steps(path, jobs, repeats)
        limit = LIMIT_UNPROJECTED if unprojected else LIMIT
        typer.echo(
            f"| whole audit, in at most {limit:g} GiB | time | processor time | peak of private memory | answer |"
        )
        typer.echo("|---|---|---|---|---|")
        counts = sorted({1, jobs}) if whole else [jobs if once else 1]
        took = [_audited(path, (n, k), count, unprojected) for count in counts]
        if whole:
            half = path.with_name("half")
            half.mkdir()
            write(half, (n // 2 or 1, k, q), np.float16, np.random.default_rng(0))
            smaller = _audited(half, (n // 2 or 1, k), 1, unprojected)
            slope = (took[0].peak - smaller.peak) / (n - n // 2)
            typer.echo(f"\nlinear in n: {smaller.peak + slope * (MANY - n // 2):.2f} GiB at n = {MANY}, jobs = 1")


def _steps(path: Path, jobs: int, repeats: int) -> None:
    typer.echo("| step | time | processor time | peak of its own memory |\n|---|---|---|---|")
    measured("recognise", lambda: recognise(path))
    rows = recognise(path).members[0].features
    alone = measured("blocked_gram", lambda: blocked_gram(rows))
    shared = measured(f"blocked_gram, jobs = {jobs}", partial(_gram, rows, jobs))
    typer.echo(f"\nlargest difference between the two Gram matrices: {np.abs(shared - alone).max():g}")
    one, several = side_by_side(partial(_gram, rows, 1), partial(_gram, rows, jobs), repeats=repeats)
    typer.echo(
        f"one thread {one}, {jobs} threads {several}; medians of {repeats}, in turn: "
        f"{one.median / several.median:.2f} times as fast\n"
    )


def _gram(rows: np.ndarray | ChunkedRows, jobs: int) -> np.ndarray:
    with gram_workers(jobs):
        return blocked_gram(rows)


def _audited(path: Path, shape: tuple[int, int], jobs: int, unprojected: bool) -> Process:
    took = audited(path, jobs, shape[1], unprojected)
    numbers = f"{took.seconds:.1f} s | {took.busy:.1f} s | {took.peak:.2f} GiB | {took.words}"
    typer.echo(f"| n = {shape[0]}, jobs = {jobs} | {numbers} |")
    return took


@dataclass(frozen=True)
class Process:
    """A finished command: seconds, processor seconds, GiB of private memory at the peak, its first words."""

    seconds: float
    busy: float
    peak: float
    words: str


def audited(path: Path, jobs: int, width: int, unprojected: bool) -> Process:
    """`trak-theory audit` in a process whose private memory cannot grow beyond the limit: it fails, or it fits."""
    limit = int((LIMIT_UNPROJECTED if unprojected else LIMIT) * 2**30)
    setting = ["--k", str(min(DIMENSION, width))] if unprojected else ["--projected", "--parameters", str(10 * width)]
    options = [*setting, "--ridge", "1", "--training-ridge", "1", "--jobs", str(jobs), "--out", f"{path}-report"]
    begun, before = perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(
        [sys.executable, "-m", "trak_theory.cli.main", "audit", str(path), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=partial(resource.setrlimit, resource.RLIMIT_DATA, (limit, limit)),
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, _private(process.pid))
        sleep(0.05)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    output, _ = process.communicate()
    return Process(perf_counter() - begun, busy, peak / 2**20, re.split(r"[:.]", output)[0])


def _private(process: int) -> int:
    """KiB in memory that no file backs; pages of a mapped file can be dropped at any time."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(found[1]) if found else 0


def write(path: Path, shape: tuple[int, int, int], dtype: type, rng: Generator) -> None:
    """A folder of .npy files in this project's own format, with scores that no features gave."""
    n, k, q = shape
    rows = np.lib.format.open_memmap(path / "features.npy", "w+", dtype, (n, k))
    step = max(1, ENTRIES // k)
    for start in range(0, n, step):
        rows[start : start + step] = rng.standard_normal(rows[start : start + step].shape, np.float32)
    rows.flush()
    np.save(path / "queries.npy", rng.standard_normal((q, k)).astype(dtype))
    np.save(path / "residual.npy", -rng.random(n))
    np.save(path / "scores.npy", rng.standard_normal((n, q)).astype(dtype))


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
