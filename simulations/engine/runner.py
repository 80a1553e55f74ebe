"""Run the cells of studies on joblib workers; each stores its own result the moment it is finished."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from joblib import Parallel, delayed, parallel_config
from threadpoolctl import threadpool_limits

from simulations.engine.progress import Progress, Say, duration_text
from simulations.engine.provenance import provenance
from simulations.engine.source import Code, OtherCodeError, check_unchanged, code_of
from simulations.engine.store import State, Store, encode
from simulations.engine.study import Cell, Run, Size, Study
from trak_theory.numerics.checks import positive_count

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Task = tuple[Study, Cell]


@dataclass(frozen=True)
class Failure:
    """A cell that raised; its traceback is in the store."""

    cell: Cell
    error: str


@dataclass(frozen=True)
class Outcome:
    """Outcome of a study's cells.

    computed  finished by this run; `stale` of them were there already, computed by other code
    kept      were in the store already
    failures  raised
    seconds   that the cells of this run took, all workers together
    """

    computed: int
    kept: int
    failures: list[Failure] = field(default_factory=list)
    stale: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Finished:
    """A worker's report on a cell: the seconds it took, and the error if it failed."""

    key: str
    seconds: float
    error: str | None


def run(
    studies: Sequence[Study],
    *,
    size: Size = "quick",
    jobs: int = 1,
    seed: int = 0,
    out: Path = Path("results"),
    dask: str | None = None,
    keep_stale: bool = False,
    announce: Say = lambda line: None,
) -> list[Outcome]:
    """Compute the missing and the stale cells of some studies, on `jobs` processes or on a Dask scheduler's workers.

    A cell's random numbers come from its parameters and `seed` alone, and BLAS has one thread, so that the rows do
    not depend on the number, kind or order of workers. The cells of all studies share the workers, longest first.
    Killed in the middle, it loses the running cells only; run it again to continue. A cell that raises is recorded,
    does not stop the others, and is tried again by the next run. With `keep_stale` the cells that other code computed
    stay as they are. With Dask, `out` must be a folder that all workers share. `announce` is told before the start how
    much there is to do, and every half minute how far it is. Returns one outcome a study.

    Raises OtherCodeError where a worker has other code or packages than this process, or the code changes meanwhile.
    """
    positive_count("jobs", jobs)
    store = Store(Path(out).resolve())
    for study in studies:
        store.prepare(study.name)
    kept = {"fresh", "stale"} if keep_stale else {"fresh"}
    states = {
        study.name: [(cell, store.state(cell, code_of(study.run))) for cell in study.cells(size, seed)]
        for study in studies
    }
    tasks = [(study, cell) for study in studies for cell, state in states[study.name] if state not in kept]
    announce(_expectation(tasks, None if dask else jobs))
    finished = {one.key: one for one in _compute_all(tasks, store, jobs, dask, announce)}
    return [_outcome(states[study.name], finished) for study in studies]


def _outcome(states: list[tuple[Cell, State]], finished: dict[str, Finished]) -> Outcome:
    ends = [(cell, state, finished[cell.key]) for cell, state in states if cell.key in finished]
    failures = [Failure(cell, end.error) for cell, _, end in ends if end.error is not None]
    return Outcome(
        computed=len(ends) - len(failures),
        kept=len(states) - len(ends),
        failures=failures,
        stale=sum(state == "stale" and end.error is None for _, state, end in ends),
        seconds=sum(end.seconds for *_, end in ends),
    )


def _expectation(tasks: Sequence[Task], jobs: int | None) -> str:
    """Expected duration, from the seconds that studies declare for their cells."""
    seconds = sum(study.duration(cell.params) for study, cell in tasks)
    share = "" if jobs is None else f", {duration_text(seconds / jobs)} with {jobs} at work"
    return f"{len(tasks)} cells to compute, about {duration_text(seconds)} on one core{share}"


def _compute_all(tasks: Sequence[Task], store: Store, jobs: int, dask: str | None, announce: Say) -> Iterator[Finished]:
    if not tasks:
        return
    tasks = sorted(tasks, key=_shortness)  # the workers end together where the last are short
    studies = {study.name: study for study, _ in tasks}
    codes = {name: code_of(study.run) for name, study in studies.items()}
    parent = None if dask else os.getpid()
    work = (delayed(_compute)(store, study.run, cell, codes[study.name], parent) for study, cell in tasks)
    expected = {cell.key: (study.name, study.duration(cell.params)) for study, cell in tasks}
    progress = Progress(_by_study(expected.values()), jobs)
    title = next(iter(studies)) if len(studies) == 1 else f"{len(studies)} studies"
    with (
        _backend(jobs, dask, list(studies.values())) as workers,
        threadpool_limits(1),
        progress.shown(title, announce) as update,
    ):
        for end in Parallel(n_jobs=workers, return_as="generator_unordered")(work):
            progress.finish(*expected[end.key], end.seconds, end.error is not None)
            update()
            yield end


def _shortness(task: Task) -> float:
    study, cell = task
    return -study.duration(cell.params)


def _by_study(expected: Iterable[tuple[str, float]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for name, seconds in expected:
        found.setdefault(name, []).append(seconds)
    return found


@contextmanager
def _backend(jobs: int, dask: str | None, studies: list[Study]) -> Iterator[int]:
    """joblib's settings for local processes or for a Dask cluster; yields joblib's n_jobs."""
    if dask is None:
        with parallel_config("loky", inner_max_num_threads=1), warnings.catch_warnings():
            # A worker that has grown large is replaced between two cells; nothing is lost.
            warnings.filterwarnings("ignore", message="A worker stopped while some jobs", category=UserWarning)
            yield jobs
        return
    from dask.distributed import Client

    with Client(dask, set_as_default=False) as client, parallel_config("dask", client=client):
        asked = [(study.run, code_of(study.run)) for study in studies]
        for address, reason in client.run(_foreign, asked, on_error="return").items():
            if reason:
                raise OtherCodeError(f"the worker {address} {reason}")
        yield -1


def _foreign(runs: Sequence[tuple[Run, Code]]) -> str:
    """In a worker: in what it differs from the process that asks, in words; empty where it does not."""
    for run_cell, asked in runs:
        reason = code_of(run_cell).difference(asked.label())
        if reason:
            return f"has other code for {run_cell.__module__}: {reason}"
    return ""


def _compute(store: Store, run_cell: Run, cell: Cell, asked: Code, parent: int | None) -> Finished:
    """In a worker: one cell, from its parameters to its file."""
    if parent is not None and parent != os.getpid():
        _follow(parent)
    _use_one_thread()
    if reason := _foreign([(run_cell, asked)]):
        raise OtherCodeError(f"a worker {reason}")
    begun, made_by = time.monotonic(), {**provenance(), "code": code_of(run_cell).label()}
    try:
        content = encode(cell, run_cell(dict(cell.params), cell.rng()), made_by)
    except Exception as error:
        store.write_failure(cell, error, made_by)
        return Finished(cell.key, time.monotonic() - begun, f"{type(error).__name__}: {error}")
    check_unchanged(run_cell)
    store.write(cell, content)
    return Finished(cell.key, time.monotonic() - begun, None)


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
