"""Run the cells of studies on joblib workers; each stores its own result the moment it is finished."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed, parallel_config
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from simulations.engine.provenance import provenance
from simulations.engine.store import Store, encode
from simulations.engine.study import Cell, Run, Size, Study
from trak_theory.numerics.checks import positive_count

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed} gone, {remaining} left{postfix}"  # in expected seconds, not cells

Task = tuple[Study, Cell]


@dataclass(frozen=True)
class Failure:
    """A cell that raised; its traceback is in the store."""

    cell: Cell
    error: str


@dataclass(frozen=True)
class Outcome:
    """computed: cells finished by this run; kept: cells that the store had already; failures: cells that raised."""

    computed: int
    kept: int
    failures: list[Failure]


def run(
    studies: Sequence[Study],
    *,
    size: Size = "quick",
    jobs: int = 1,
    seed: int = 0,
    out: Path = Path("results"),
    dask: str | None = None,
    announce: Callable[[str], Any] = lambda line: None,
) -> list[Outcome]:
    """Compute the cells of some studies that are not stored yet, on `jobs` processes or on a Dask scheduler's workers.

    A cell's random numbers come from its parameters and `seed` alone, and BLAS has one thread, so that the rows do
    not depend on the number, kind or order of workers. The cells of all studies share the workers, longest first.
    Killed in the middle, it loses the running cells only; run it again to continue. A cell that raises is recorded,
    does not stop the others, and is tried again by the next run. With Dask, `out` must be a folder that all workers
    share. `announce` is told before the start how much there is to do. Returns one outcome a study.
    """
    positive_count("jobs", jobs)
    store = Store(Path(out).resolve())
    for study in studies:
        store.prepare(study.name)
    cells = [study.cells(size, seed) for study in studies]
    left = [[cell for cell in every if not store.is_done(cell)] for every in cells]
    tasks = [(study, cell) for study, some in zip(studies, left, strict=True) for cell in some]
    announce(_expectation(tasks, None if dask else jobs))
    failed = dict(_compute_all(tasks, store, jobs, dask))
    outcomes = []
    for every, some in zip(cells, left, strict=True):
        failures = [Failure(cell, failed[cell.key]) for cell in some if cell.key in failed]
        outcomes.append(Outcome(len(some) - len(failures), len(every) - len(some), failures))
    return outcomes


def _expectation(tasks: Sequence[Task], jobs: int | None) -> str:
    """How long it may take, from what the studies say of their cells."""
    seconds = sum(study.duration(cell.params) for study, cell in tasks)
    share = "" if jobs is None else f", {duration_text(seconds / jobs)} with {jobs} at work"
    return f"{len(tasks)} cells to compute, about {duration_text(seconds)} on one core{share}"


def duration_text(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _compute_all(tasks: list[Task], store: Store, jobs: int, dask: str | None) -> Iterator[tuple[str, str]]:
    """Keys of the cells that fail, with their errors."""
    seconds = {cell.key: study.duration(cell.params) for study, cell in tasks}
    tasks = sorted(tasks, key=lambda task: -seconds[task[1].key])  # the workers end together where the last are short
    made_by, parent = provenance(), None if dask else os.getpid()
    work = (delayed(_compute)(store, study.run, cell, made_by, parent) for study, cell in tasks)
    names = sorted({study.name for study, _ in tasks})
    title = names[0] if len(names) == 1 else f"{len(names)} studies"
    failed = 0
    with (
        _backend(jobs, dask) as workers,
        threadpool_limits(1),
        tqdm(desc=title, total=sum(seconds.values()), bar_format=BAR, disable=None) as bar,
    ):
        for done, (key, error) in enumerate(Parallel(n_jobs=workers, return_as="generator_unordered")(work), 1):
            if error is not None:
                failed += 1
                yield key, error
            bar.set_postfix_str(f"{done}/{len(tasks)} cells, {failed} failed", refresh=False)
            bar.update(seconds[key])


@contextmanager
def _backend(jobs: int, dask: str | None) -> Iterator[int]:
    """joblib's settings for local processes or for a Dask cluster; yields joblib's n_jobs."""
    if dask is None:
        with parallel_config("loky", inner_max_num_threads=1), warnings.catch_warnings():
            # A worker that has grown large is replaced between two cells; nothing is lost.
            warnings.filterwarnings("ignore", message="A worker stopped while some jobs", category=UserWarning)
            yield jobs
        return
    from dask.distributed import Client

    with Client(dask, set_as_default=False) as client, parallel_config("dask", client=client):
        yield -1


def _compute(
    store: Store, run_cell: Run, cell: Cell, made_by: dict[str, Any], parent: int | None
) -> tuple[str, str | None]:
    """In a worker: one cell, from its parameters to its file. Returns its key, and the error where it failed."""
    if parent is not None and parent != os.getpid():
        _follow(parent)
    _use_one_thread()
    try:
        content = encode(cell, run_cell(dict(cell.params), cell.rng()), made_by)
    except Exception as error:
        store.write_failure(cell, error, made_by)
        return cell.key, f"{type(error).__name__}: {error}"
    store.write(cell, content)
    return cell.key, None


@cache
def _follow(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end with it: a worker would outlive a killed parent and go on with its queue."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _use_one_thread() -> None:
    """One BLAS and OpenMP thread, in the libraries that are loaded and in those that a study loads later."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    threadpool_limits(1)
