"""Gram matrices of features that do not fit into memory."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike

BLOCK_ENTRIES = 2**24  # of a block in double precision: 128 MiB


def blocked_gram(features: ArrayLike, *, block_rows: int | None = None) -> Array:
    """XᵀX (k, k) in double precision of rows X (n, k), read once in blocks.

    features    any real dtype, memory-mapped or not; each block is converted when it is added
    block_rows  rows a block, by default as many as fill 128 MiB; memory is k² + block_rows · k doubles

    Each entry has an absolute error of at most n ε Σ_i |x_ia x_ib|, whatever the block.

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
    for start in range(0, len(rows), step):
        block = np.asarray(rows[start : start + step], np.float64)
        gram += block.T @ block
    return gram
