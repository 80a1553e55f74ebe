"""Restored influence with every gradient and direction kept: no sketch, for networks whose rows fit into memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy import ndarray as Array
from scipy.linalg import cho_factor, cho_solve, eigvalsh
from scipy.linalg.lapack import dpotri

from trak_theory.numerics.gram import blocked_gram
from trak_theory.retraining.ridge_rule import subset_ridge

GRAM_BLOCK = 2**21  # entries of a block in double precision: 16 MiB


@dataclass(eq=False)
class KeptRows:
    """Rows of one pass without a sketch, in single precision: pulls √d_iφ_i (n, p), directions (N, p), rest (·, p)."""

    pulled: list[Array] = field(default_factory=list)
    directions: list[Array] = field(default_factory=list)
    rest: list[Array] = field(default_factory=list)

    def add(self, rows: Array, rest: Array, weights: Array) -> None:
        """rows (b, 1 + m, p), weights (b,) of the gradients in the leverage of a point."""
        self.pulled.append(np.sqrt(weights, dtype=np.float32)[:, None] * rows[:, 0])
        self.directions.append(rows[:, 1:].reshape(-1, rows.shape[2]))
        self.rest.append(rest)

    def rule_ridge(self, ridge: float, *, fraction: float | None) -> float:
        if fraction is None:
            return ridge
        rows = np.concatenate(self.pulled)
        values = eigvalsh(smaller_gram(rows), check_finite=False)
        return subset_ridge(np.maximum(values, 0.0), ridge, n=len(rows), fraction=fraction)

    def influence(self, queries: Array, ridge: float) -> KeptInfluence:
        rows, rest = (np.concatenate(parts) for parts in (self.directions, self.rest))
        solved, dimension = ridge_solve(rows, np.concatenate([queries, rest]), ridge)
        many = len(queries)
        return KeptInfluence(solved[:many], solved[many:], ridge, dimension)


@dataclass(frozen=True, eq=False)
class KeptInfluence:
    """T_ij = −g_iᵀRφ*_j, R = (ΨᵀΨ + λI)⁻¹, from Rφ* (q, p) and R z (·, p) of the neglected curvature z."""

    solved: Array
    solved_rest: Array
    ridge: float
    effective_dimension: float

    projected_ridge = 0.0
    warnings: tuple[str, ...] = ()

    def of(self, gradients: Array) -> tuple[Array, Array]:
        """Scores (b, q) of gradients g (b, p), presence sign; without a sketch their variance is 0."""
        scores = -gradients @ self.solved.T
        return scores, np.zeros_like(scores)

    @property
    def neglected(self) -> Array:
        """λ zᵀR²z ≥ df(S + zzᵀ) − df(S) of each neglected direction."""
        return self.ridge * np.einsum("ip,ip->i", self.solved_rest, self.solved_rest)


def ridge_solve(rows: Array, right: Array, ridge: float) -> tuple[Array, float]:
    """(ΨᵀΨ + λI)⁻¹ of right (q, p) for rows Ψ (N, p), and df(λ) of Ψ."""
    right = right.astype(float)
    gram = smaller_gram(rows)
    gram[np.diag_indices(len(gram))] += ridge
    factor = cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
    if len(gram) == rows.shape[1]:
        solved = cho_solve(factor, right.T, check_finite=False).T
    else:
        inside = cho_solve(factor, _product(rows, right), check_finite=False).T.astype(rows.dtype)
        solved = (right - inside @ rows) / ridge
    inverse, _ = dpotri(factor[0], lower=True, overwrite_c=True)
    return solved, float(len(inverse) - ridge * np.trace(inverse))


def _product(rows: Array, right: Array) -> Array:
    """Ψ rightᵀ (N, q) in double precision, some rows at a time."""
    step = max(1, GRAM_BLOCK // rows.shape[1])
    parts = [rows[start : start + step].astype(float) @ right.T for start in range(0, len(rows), step)]
    return np.concatenate(parts)


def smaller_gram(rows: Array) -> Array:
    """ΨᵀΨ or ΨΨᵀ, whichever is smaller, in double precision."""
    many, p = rows.shape
    tall = rows if p <= many else rows.T
    return blocked_gram(tall, block_rows=max(1, GRAM_BLOCK // tall.shape[1]))
