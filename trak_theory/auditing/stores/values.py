"""Numbers of a store, checked in blocks: finite, of a size whose powers are numbers, no row out of all proportion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from trak_theory.errors import StoreError
from trak_theory.numerics.rows import ChunkedRows

BLOCK = 2**22  # entries held in double precision at a time
LARGEST, SMALLEST = 1e40, 1e-40  # of an entry: sixth powers must be numbers
FAR = 1e6  # a row so many times longer than the median row is named


def checked_rows(path: Path, array: Array | ChunkedRows, *, zeros: bool = True) -> tuple[str, ...]:
    """StoreError unless a matrix of usable numbers; remarks on zeros and on a row far longer than the others.

    zeros: whether a matrix of zeros is usable (scores, queries) or not (features)
    """
    if array.ndim != 2:
        raise StoreError(f"{path}: shape {array.shape}, expected (rows, columns)")
    lengths = np.empty(len(array))
    largest = 0.0
    step = max(1, BLOCK // array.shape[1])
    for start in range(0, len(array), step):
        block = np.abs(array[start : start + step].astype(np.float64))
        _check_finite(path, block, start, len(array))
        largest = max(largest, float(block.max()))
        lengths[start : start + step] = np.sqrt(np.einsum("ij,ij->i", block, block))
    _check_size(path, largest, zeros)
    return _remarks(path, lengths)


def checked_vector(path: Path, array: Array, n: int) -> Array:
    """`n` usable numbers in double precision, from (n,) or (n, 1)."""
    if array.shape not in ((n,), (n, 1)):
        raise StoreError(f"{path}: shape {array.shape}, expected ({n},)")
    values = np.array(array, np.float64).reshape(n, 1)
    _check_finite(path, values, 0, n)
    _check_size(path, float(np.abs(values).max()), zeros=True)
    return values[:, 0]


def _check_finite(path: Path, block: Array, start: int, rows: int) -> None:
    good = np.isfinite(block).all(1)
    if not good.all():
        raise StoreError(f"{path}: NaN or inf, first in row {start + int(np.argmin(good))} of {rows}: compute it again")


def _check_size(path: Path, largest: float, zeros: bool) -> None:
    if largest > LARGEST:
        raise StoreError(f"{path}: entries reach {largest:.3g}, at most {LARGEST:g} are read: rescale them")
    if 0 < largest < SMALLEST:
        raise StoreError(f"{path}: no entry exceeds {largest:.3g}, at least {SMALLEST:g} is needed: rescale them")
    if largest == 0 and not zeros:
        raise StoreError(f"{path}: every entry is zero: half-written, or no gradient was computed")


def _remarks(path: Path, lengths: Array) -> tuple[str, ...]:
    positive = lengths[lengths > 0]
    notes: tuple[str, ...] = ()
    if positive.size < lengths.size:
        first = int(np.argmin(lengths > 0))
        notes += (f"{path}: {lengths.size - positive.size} of {lengths.size} rows are zero, the first is row {first}",)
    if positive.size and positive.max() > FAR * (typical := float(np.median(positive))):
        row = int(np.argmax(lengths))
        norms = f"row {row} has norm {lengths[row]:.3g}, the median row {typical:.3g}"
        notes += (f"{path}: {norms}: damaged, or an outlier",)
    return notes
