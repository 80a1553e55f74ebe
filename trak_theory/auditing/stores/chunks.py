"""Rows that a package wrote in several files, and scores that it left to the user to save."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from trak_theory.auditing.stores.files import BFLOAT16, read_npy
from trak_theory.auditing.stores.values import checked_rows
from trak_theory.errors import StoreError
from trak_theory.numerics.rows import ChunkedRows

SCORES = "scores.npy"
BLOCK = 2**22  # entries held in double precision at a time


def joined(parts: list[Array], name: str) -> Array | ChunkedRows:
    """The rows of all parts, of stored numbers of that name: one file itself, several or bfloat16 read in blocks."""
    return parts[0] if len(parts) == 1 and name != BFLOAT16 else ChunkedRows(tuple(parts), name == BFLOAT16)


def mean_eigenvalues(rows: Array | ChunkedRows, blocks: tuple[int, ...]) -> tuple[float, ...]:
    """tr X_bᵀX_b/k_b of each block of columns, in one pass over the rows."""
    edges = np.concatenate([[0], np.cumsum(blocks)[:-1]]).astype(int)
    squares = np.zeros(rows.shape[1])
    step = max(1, BLOCK // rows.shape[1])
    for start in range(0, len(rows), step):
        block = rows[start : start + step].astype(np.float64)
        squares += np.einsum("ij,ij->j", block, block)
    return tuple(float(trace) for trace in np.add.reduceat(squares, edges) / np.array(blocks))


def scores_beside(path: Path, n: int) -> tuple[Array | None, dict[str, str]]:
    """(n, q) scores saved by the user in the package's folder, or what is missing."""
    file = path / SCORES
    if not file.exists():
        return None, {"scores": f"{SCORES} in this folder, (n, q): the package returns them and stores none"}
    scores = read_npy(file)
    if scores.ndim != 2 or len(scores) != n:
        raise StoreError(f"{file}: shape {scores.shape}, expected (n, q) with n = {n}")
    checked_rows(file, scores)
    return scores, {}
