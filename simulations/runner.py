"""Run the cells of a study on joblib workers; each stores its own result the moment it is finished."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed, parallel_config
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from simulations.provenance import provenance
from simulations.store import Store, encode
from simulations.study import Cell, Run, Size, Study
from trak_theory.validation import positive_count

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


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
    study: Study,
    *,
    size: Size = "quick",
    jobs: int = 1,
    seed: int = 0,
    out: Path = Path("results"),
    dask: str | None = None,
) -> Outcome:
    """Compute the cells of a study that are not stored yet, on `jobs` processes or on the workers of a Dask scheduler.

    A cell's random numbers come from its parameters and `seed` alone, and BLAS has one thread, so that the rows do
    not depend on the number, kind or order of workers. Killed in the middle, it loses the running cells only; run it
    again to continue. A cell that raises is recorded, does not stop the others, and is tried again by the next run.
    With Dask, `out` must be a folder that all workers share.
    """
    positive_count("jobs", jobs)
    store = Store(Path(out).resolve())
    store.prepare(study.name)
    cells = study.cells(size, seed)
    left = [cell for cell in cells if not store.is_done(cell)]
    made_by, parent = provenance(), os.getpid()
    tasks = (delayed(_compute)(store, study.run, cell, made_by, None if dask else parent) for cell in left)
    kept = len(cells) - len(left)
    failures = []
    with (
        _backend(jobs, dask) as workers,
        threadpool_limits(1),
        tqdm(desc=study.name, total=len(cells), initial=kept, unit="cell", disable=None) as bar,
    ):
        for failure in Parallel(n_jobs=workers, return_as="generator_unordered")(tasks):
            if failure is not None:
                failures.append(failure)
                bar.set_postfix(failed=len(failures))
            bar.update()
    order = {cell.key: place for place, cell in enumerate(cells)}
    failures.sort(key=lambda failure: order[failure.cell.key])
    return Outcome(len(left) - len(failures), kept, failures)


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


def _compute(store: Store, run_cell: Run, cell: Cell, made_by: dict[str, Any], parent: int | None) -> Failure | None:
    """In a worker: one cell, from its parameters to its file."""
    if parent is not None and parent != os.getpid():
        _follow(parent)
    _use_one_thread()
    try:
        content = encode(cell, run_cell(dict(cell.params), cell.rng()), made_by)
    except Exception as error:
        store.write_failure(cell, error, made_by)
        return Failure(cell, f"{type(error).__name__}: {error}")
    store.write(cell, content)
    return None


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
