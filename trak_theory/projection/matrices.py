"""Random projections P (p, k) with E[PPᵀ] = I."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from scipy.sparse import csr_array

from trak_theory.numerics.checks import positive_count

Sketch = Literal["normal", "rademacher", "sparse"]
SPARSE_ENTRIES_PER_ROW = 8


def projection_matrix(p: int, k: int, *, kind: Sketch = "normal", rng: Generator) -> Array | csr_array:
    """A random projection P (p, k), scaled so that E[PPᵀ] = I.

    normal       entries N(0, 1/k)
    rademacher   entries ±1/√k
    sparse       a sparse Johnson–Lindenstrauss transform: s = min(8, k) entries ±1/√s in each row
    """
    p, k = positive_count("p", p), positive_count("k", k)
    if k > p:
        raise ValueError(f"k = {k} exceeds p = {p}: a projection cannot add dimensions; use k ≤ p")
    if kind == "normal":
        return rng.standard_normal((p, k)) / np.sqrt(k)
    if kind == "rademacher":
        return rng.choice([-1.0, 1.0], (p, k)) / np.sqrt(k)
    if kind == "sparse":
        return _sparse(p, k, rng)
    raise ValueError(f"unknown projection {kind!r}: choose one of {get_args(Sketch)}")


def _sparse(p: int, k: int, rng: Generator) -> csr_array:
    """One block of k/s columns for each of the s entries of a row, so that they never collide."""
    s = min(SPARSE_ENTRIES_PER_ROW, k)
    edges = np.linspace(0, k, s + 1).astype(int)
    columns = rng.integers(edges[:-1], edges[1:], size=(p, s))
    signs = rng.choice([-1.0, 1.0], (p, s)) / np.sqrt(s)
    return csr_array((signs.ravel(), columns.ravel(), np.arange(0, p * s + 1, s)), shape=(p, k))
