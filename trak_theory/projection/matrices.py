"""Random projections P (p, k) with E[PPᵀ] = I."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from scipy.sparse import csr_array

from trak_theory.numerics.checks import positive_count

Sketch = Literal["normal", "rademacher", "sparse", "countsketch", "srht"]
ENTRIES_PER_ROW = {"sparse": 8, "countsketch": 1}


def projection_matrix(p: int, k: int, *, kind: Sketch = "normal", rng: Generator) -> Array | csr_array:
    """A random projection P (p, k), scaled so that E[PPᵀ] = I.

    normal       entries N(0, 1/k)
    rademacher   entries ±1/√k
    sparse       a sparse Johnson–Lindenstrauss transform: s = min(8, k) entries ±1/√s in each row
    countsketch  the same with s = 1
    srht         random signs times k columns of a Hadamard matrix, drawn without replacement: entries ±1/√k

    >>> matrix = projection_matrix(6, 4, rng=np.random.default_rng(0))
    >>> matrix.shape
    (6, 4)
    """
    p, k = positive_count("p", p), positive_count("k", k)
    if k > p:
        raise ValueError(f"k = {k} exceeds p = {p}: a projection cannot add dimensions; use k ≤ p")
    if kind == "normal":
        return rng.standard_normal((p, k)) / np.sqrt(k)
    if kind == "rademacher":
        return rng.choice([-1.0, 1.0], (p, k)) / np.sqrt(k)
    if kind in ENTRIES_PER_ROW:
        return _sparse(p, k, min(ENTRIES_PER_ROW[kind], k), rng)
    if kind == "srht":
        return _hadamard(p, k, rng)
    raise ValueError(f"unknown projection {kind!r}: choose one of {get_args(Sketch)}")


def _sparse(p: int, k: int, s: int, rng: Generator) -> csr_array:
    """One block of k/s columns for each of the s entries of a row, so that they never collide."""
    edges = np.linspace(0, k, s + 1).astype(int)
    columns = rng.integers(edges[:-1], edges[1:], size=(p, s))
    signs = rng.choice([-1.0, 1.0], (p, s)) / np.sqrt(s)
    return csr_array((signs.ravel(), columns.ravel(), np.arange(0, p * s + 1, s)), shape=(p, k))


def _hadamard(p: int, k: int, rng: Generator) -> Array:
    """Entry (a, c) of Hadamard's matrix of the next power of two is (−1) to the number of bits that a and c share."""
    columns = rng.choice(1 << (p - 1).bit_length(), k, replace=False)
    shared = np.bitwise_count(np.arange(p)[:, None] & columns) & 1
    return rng.choice([-1.0, 1.0], (p, 1)) * (1.0 - 2.0 * shared) / np.sqrt(k)
