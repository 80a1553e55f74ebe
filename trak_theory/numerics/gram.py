"""Gram matrices of features that do not fit into memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike

from trak_theory.errors import require
from trak_theory.numerics.checks import positive_count

BLOCK_ENTRIES = 2**24  # of a block in double precision: 128 MiB
_workers: ContextVar[int] = ContextVar("workers", default=1)


@contextmanager
def gram_workers(count: int) -> Iterator[None]:
    """Within it, `blocked_gram` adds up blocks that `count` joblib threads multiply; needs joblib for more than one.

    Threads share the rows, mapped or not, and BLAS lets go of the interpreter; set its own threads to one.

    >>> with gram_workers(1):
    ...     blocked_gram([[1.0, 2.0]])
    array([[1., 2.],
           [2., 4.]])
    """
    if positive_count("the number of workers", count) > 1:
        require("joblib")
    token = _workers.set(count)
    try:
        yield
    finally:
        _workers.reset(token)


def blocked_gram(features: ArrayLike, *, block_rows: int | None = None) -> Array:
    """XᵀX (k, k) in double precision of rows X (n, k), read once in blocks.

    features    any real dtype, memory-mapped or not; each block is converted when it is added
    block_rows  rows a block, by default as many as fill 128 MiB; memory is k² + block_rows · k doubles a worker

    Each entry has an absolute error of at most n ε Σ_i |x_ia x_ib|, whatever the block. Blocks and the order of their
    sum do not depend on the number of `gram_workers`, and so neither does the result, to the last bit.

    >>> blocked_gram([[1.0, 2.0], [3.0, 4.0]], block_rows=1)
    array([[10., 14.],
           [14., 20.]])
    """
    rows = features if isinstance(features, np.ndarray) else np.asarray(features)
    if rows.ndim != 2 or rows.dtype.kind not in "biuf" or rows.size == 0:
        raise ValueError(f"features must be a real (n, k) matrix, got {rows.dtype} of shape {rows.shape}")
    step = max(1, BLOCK_ENTRIES // rows.shape[1]) if block_rows is None else block_rows
    if step < 1:
        raise ValueError(f"block_rows must be at least 1, got {block_rows}")
    gram = np.zeros((rows.shape[1], rows.shape[1]))
    for part in _parts(rows, range(0, len(rows), step), step):
        gram += part
    return gram


def _parts(rows: Array, starts: range, step: int) -> Iterable[Array]:
    """The Gram matrices of the blocks, in their order."""
    count = min(_workers.get(), len(starts))
    if count == 1:
        return (_part(rows, start, step) for start in starts)
    from joblib import Parallel, delayed

    pool = Parallel(n_jobs=count, backend="threading", batch_size=1, return_as="generator")
    return pool(delayed(_part)(rows, start, step) for start in starts)


def _part(rows: Array, start: int, step: int) -> Array:
    block = np.asarray(rows[start : start + step], np.float64)
    return block.T @ block
