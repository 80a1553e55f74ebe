"""Subsets of training points: index arrays in, a matrix of counts out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike

Subsets = ArrayLike | Sequence[ArrayLike]


def membership(subsets: Subsets, n: int) -> Array:
    """Counts (B, n): how often each of n points occurs in each subset. An index given twice counts twice.

    subsets: index arrays, as rows (B, m) or as a list of unequal lengths.

    >>> membership([[0, 2], [1, 1, 2]], n=3)
    array([[1., 0., 1.],
           [0., 2., 1.]])
    """
    rows = [_indices(subset, number, n) for number, subset in enumerate(subsets)]  # type: ignore[arg-type]
    if not rows:
        raise ValueError("there are no subsets")
    return np.stack([np.bincount(row, minlength=n) for row in rows]).astype(float)


def _indices(subset: ArrayLike, number: int, n: int) -> Array:
    indices = np.asarray(subset)
    if indices.dtype == bool:
        raise TypeError(f"subset {number} is a mask; give indices, np.flatnonzero(mask)")
    if indices.ndim != 1 or indices.size == 0:
        raise ValueError(f"subset {number} must be a non-empty row of indices, got shape {indices.shape}")
    if indices.dtype.kind not in "iu":
        raise TypeError(f"subset {number} must hold integer indices, got dtype {indices.dtype}")
    if indices.min() < 0 or indices.max() >= n:
        raise ValueError(f"subset {number} spans [{indices.min()}, {indices.max()}], the points are 0 … {n - 1}")
    return indices
