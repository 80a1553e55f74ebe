"""Gram matrices and products of features that do not fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike

from trak_theory.errors import ClusterError, require
from trak_theory.numerics.checks import positive_count
from trak_theory.numerics.rows import Rows, rows_of

if TYPE_CHECKING:
    from distributed import Client

BLOCK_ENTRIES = 2**24  # of a block of a Gram matrix in double precision: 128 MiB
PRODUCT_ENTRIES = 2**22  # of a block of a product


@dataclass(frozen=True)
class _Workers:
    threads: int = 1
    cluster: Client | None = None


ALONE = _Workers()
_workers: ContextVar[_Workers] = ContextVar("workers", default=ALONE)


@contextmanager
def gram_workers(count: int = 1, dask: str | None = None) -> Iterator[None]:
    """Within it, blocks of rows are multiplied by `count` threads of joblib, those of Gram matrices on a Dask cluster.

    count  threads, which share the rows, mapped or not; BLAS lets go of the interpreter: set its own threads to one
    dask   address of a Dask scheduler, whose workers must find a mapped file under the same name; other rows are sent

    Neither changes a bit of the result, as long as all machines multiply alike. Raises MissingExtraError without joblib
    or distributed, OSError where no scheduler answers.

    >>> with gram_workers(1):
    ...     blocked_gram([[1.0, 2.0]])
    array([[1., 2.],
           [2., 4.]])
    """
    if positive_count("the number of workers", count) > 1 or dask is not None:
        require("joblib")
    with _client(dask) as client:
        token = _workers.set(_Workers(count, client))
        try:
            yield
        finally:
            _workers.reset(token)


@contextmanager
def _client(address: str | None) -> Iterator[Client | None]:
    if address is None:
        yield None
        return
    require("distributed")
    from distributed import Client

    with Client(address, set_as_default=False) as client:
        yield client


def blocked_gram(features: ArrayLike | Rows, *, weights: Array | None = None, block_rows: int | None = None) -> Array:
    """XᵀDX (k, k) in double precision of rows X (n, k), read once in blocks.

    features    any real dtype, memory-mapped or not; each block is converted when it is added
    weights     diagonal (n,) ≥ 0 of D; default I
    block_rows  rows a block, by default as many as fill 128 MiB; memory is k² + block_rows · k doubles a worker

    Each entry has an absolute error of at most n ε Σ_i d_i |x_ia x_ib|, whatever the block. Blocks and the order of
    their sum do not depend on `gram_workers`, and so neither does the result, to the last bit.

    >>> blocked_gram([[1.0, 2.0], [3.0, 4.0]], block_rows=1)
    array([[10., 14.],
           [14., 20.]])
    """
    rows = rows_of(features)
    n, k = rows.shape
    step = max(1, BLOCK_ENTRIES // k) if block_rows is None else block_rows
    if step < 1:
        raise ValueError(f"block_rows must be at least 1, got {block_rows}")
    roots = None if weights is None else np.sqrt(weights)
    tasks = (
        partial(_gram, rows.part(start, start + step), None if roots is None else roots[start : start + step])
        for start in range(0, n, step)
    )
    gram = np.zeros((k, k))
    for part in _on_cluster(tasks) if _workers.get().cluster else _results(tasks):
        gram += part
    return gram


def over_blocks(function: Callable[[Array], Array], features: ArrayLike | Rows) -> Array:
    """Values (n, …) of a function of single rows, applied to blocks (b, k) of them in double precision.

    >>> over_blocks(lambda rows: rows @ np.array([1.0, 10.0]), [[1, 2], [3, 4]])
    array([21., 43.])
    """
    rows = rows_of(features)
    return np.concatenate(list(_results(partial(_applied, function, rows.part(*edges)) for edges in _edges(rows))))


def weighted_sum(features: ArrayLike | Rows, weights: Array) -> Array:
    """Σ_i w_i x_i (k,) of rows x_i, in blocks.

    >>> weighted_sum([[1.0, 2.0], [3.0, 4.0]], np.array([10.0, 1.0]))
    array([13., 24.])
    """
    rows = rows_of(features)
    tasks = (partial(_sum, rows.part(start, stop), weights[start:stop]) for start, stop in _edges(rows))
    return np.asarray(sum(_results(tasks)))


def _edges(rows: Rows) -> Iterator[tuple[int, int]]:
    n, k = rows.shape
    step = max(1, PRODUCT_ENTRIES // k)
    return ((start, start + step) for start in range(0, n, step))


def _gram(rows: Rows, roots: Array | None) -> Array:
    block = rows.read() if roots is None else roots[:, None] * rows.read()
    return block.T @ block


def _sum(rows: Rows, weights: Array) -> Array:
    return weights @ rows.read()


def _applied(function: Callable[[Array], Array], rows: Rows) -> Array:
    return function(rows.read())


def _results(tasks: Iterable[Callable[[], Array]]) -> Iterable[Array]:
    """In the order of the tasks, on as many threads as were asked for."""
    count = _workers.get().threads
    if count == 1:
        return (task() for task in tasks)
    from joblib import Parallel, delayed

    pool = Parallel(n_jobs=count, backend="threading", batch_size=1, return_as="generator")
    return pool(delayed(task)() for task in tasks)


def _on_cluster(tasks: Iterable[Callable[[], Array]]) -> Iterator[Array]:
    from joblib import Parallel, delayed, parallel_config

    with parallel_config("dask", client=_workers.get().cluster):
        pool = Parallel(n_jobs=-1, batch_size=1, return_as="generator")
        results = pool(delayed(task)() for task in tasks)
        try:
            yield from results
        except OSError:
            raise
        except Exception as error:
            raise ClusterError(f"a worker of the Dask cluster failed: {error or type(error).__name__}") from error
