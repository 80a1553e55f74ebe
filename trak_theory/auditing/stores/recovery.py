"""Settings recovered from the redundancy of a store: the ridge that was not written down, files that do not match."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy import ndarray as Array

from trak_theory.auditing.stores.contents import RecoveredRidge
from trak_theory.numerics.rows import ChunkedRows

BLOCK = 2**22  # entries held in double precision at a time
PROBES = 16
MISFIT = 0.5  # of rows that are no product with an inverse
EPSILON = {"float16": 2**-10, "float32": 2**-23, "float64": 2**-52}


def recovered_ridges(
    features: Array | ChunkedRows, preconditioned: Array | ChunkedRows, blocks: tuple[int, ...] = ()
) -> tuple[RecoveredRidge, ...]:
    """μ of each block, by least squares in (μ, 1/c) on F(S + μI)V = XV/c, with F = cX(S + μI)⁻¹ as stored, S = XᵀX.

    V holds up to 16 cosines, so that two passes over the rows suffice. The standard error takes the residuals for
    independent; rounding of the package's own inverse is common to all rows and can exceed it tenfold. Source: ours.
    """
    edges = np.cumsum((0, *(blocks or (features.shape[1],))))
    slices = [slice(start, end) for start, end in pairwise(edges)]
    return tuple(_ridge(features[:, block], preconditioned[:, block]) for block in slices)


def _ridge(rows: Array | ChunkedRows, solved: Array | ChunkedRows) -> RecoveredRidge:
    probes = _cosines(rows.shape[1])
    direct = _products(rows, probes)
    step = max(1, BLOCK // rows.shape[1])
    gram = np.zeros(probes.shape)
    for start in range(0, len(rows), step):
        gram += rows[start : start + step].astype(np.float64).T @ direct[start : start + step]
    design = np.stack([-_products(solved, probes).ravel(), direct.ravel()], 1)
    return _fit(design, _products(solved, gram).ravel())


def _fit(design: Array, target: Array) -> RecoveredRidge:
    scales = np.linalg.norm(design, axis=0)
    if not scales.all():
        return RecoveredRidge(0.0, np.inf, 1.0)
    normal = (design / scales).T @ (design / scales)
    inverse = np.linalg.pinv(normal)
    found = inverse @ ((design / scales).T @ target) / scales
    residual = np.linalg.norm(target - design @ found)
    error = residual / np.sqrt(max(target.size - 2, 1)) * np.sqrt(max(inverse[0, 0], 0.0)) / scales[0]
    misfit = float(residual / np.linalg.norm(target)) if target.any() else 1.0
    return RecoveredRidge(float(found[0]), float(error), misfit, float(found[1]))


def _cosines(width: int) -> Array:
    """Columns of the discrete cosine transform, evenly spread: no draw, and no axis of the features."""
    frequencies = np.unique(np.linspace(0, width - 1, min(PROBES, width)).astype(int))
    return np.cos(np.pi / width * np.outer(np.arange(width) + 0.5, frequencies))


def _products(rows: Array | ChunkedRows, right: Array) -> Array:
    step = max(1, BLOCK // rows.shape[1])
    parts = [rows[start : start + step].astype(np.float64) @ right for start in range(0, len(rows), step)]
    return np.concatenate(parts)


def score_mismatch(scores: Array, factors: list[tuple[Array | ChunkedRows, Array]], residual: Array | None) -> float:
    """max_ij |stored − t| over max |stored|, with t = −r_i Σ_m a_i·b_j/J of stored factors a (n, k) and b (q, k).

    Zero for scores that the factors give; t = Σ_m a_i·b_j/J where there is no residual.
    """
    rights = [np.asarray(right, np.float64).T for _, right in factors]
    difference, largest = 0.0, 0.0
    step = max(1, BLOCK // max(factors[0][0].shape[1], scores.shape[1]))
    for start in range(0, len(scores), step):
        block = slice(start, start + step)
        kernels = [left[block].astype(np.float64) @ right for (left, _), right in zip(factors, rights, strict=True)]
        expected = np.mean(kernels, 0) * (1.0 if residual is None else -residual[block, None])
        stored = scores[block].astype(np.float64)
        difference = max(difference, float(np.abs(stored - expected).max()))
        largest = max(largest, float(np.abs(stored).max()))
    return difference / largest if largest else float(difference > 0)


def tolerance(dtype: str, width: int) -> float:
    """Relative rounding of a score of `width` terms, with a factor of 32 to spare; at most 0.3."""
    return min(32 * EPSILON.get(dtype, 2**-7) * float(np.sqrt(width)), 0.3)
