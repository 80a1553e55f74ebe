"""Simulated TRAK scores under the law of their projection: what given scores are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from scipy.linalg import cho_factor, cho_solve, eigh, qr

from trak_theory.projection.kernel_law import KernelLaw

MOST_WORK = 1e8  # m k² J of one draw; beyond it the normal limit of the kernel, whose relative error is O(1/(k − df₂))


MOST_POINTS, MOST_QUERIES = 1_000, 40


def drawn(law: KernelLaw, residual: Array, gram: Array, usable: tuple[Array, Array]) -> ScoreDraws:
    """Draws of at most 1,000 points and 40 queries, spread evenly over the usable ones (boolean n and q)."""
    chosen = [
        _spread(np.flatnonzero(mask), most) for mask, most in zip(usable, (MOST_POINTS, MOST_QUERIES), strict=True)
    ]
    return ScoreDraws(law, residual, gram, *chosen)


def _spread(entries: Array, most: int) -> Array:
    return entries[np.linspace(0, entries.size - 1, min(entries.size, most)).astype(int)]


@dataclass(frozen=True, eq=False)
class ScoreDraws:
    """Draws of T = −r_i φ_iᵀK_Pφ*_j (n, q), averaged over J projections P, for fixed features, queries and residuals.

    law         of the kernel, with its setting k, J, μ
    residual    (n,)
    gram        (q, q) inner products of the queries, which share what lies outside the span of the training rows
    points, queries   the rows and columns that are drawn

    Up to m k² J = 10⁸ every draw is that of a normal projection, in the coordinates of the spectrum. Beyond, it is the
    normal limit K ≃ R + γ(J(k − df₂))^−½ R W R with W symmetric, W_ab ~ N(0, 1 + δ_ab): its variance is (3.3), and the
    covariance between scores of different points and queries comes with it. Source: ours.
    """

    law: KernelLaw
    residual: Array
    gram: Array
    points: Array
    queries: Array

    def __call__(self, count: int, rng: Generator) -> Iterator[Array]:
        exact = self.law.space.rank * self.law.k**2 * self.law.ensemble <= MOST_WORK
        draw = self._projected if exact else self._limit
        for child in rng.spawn(count):
            yield -self.residual[self.points, None] * draw(child)

    @cached_property
    def query_rows(self) -> Array:
        """(q, m + q): the queries in the coordinates of the spectrum, then a root of what lies outside them."""
        inside = self.law.space.queries[self.queries]
        outside = self.gram[np.ix_(self.queries, self.queries)] - inside @ inside.T
        values, vectors = eigh(outside)
        return np.hstack([inside, vectors * np.sqrt(np.maximum(values, 0.0))])

    def inverse(self, law: KernelLaw) -> Array:
        """R (m + q,) of a law of these features, in those coordinates."""
        inverse = np.full(self.query_rows.shape[1], 1 / law.implicit_ridge)
        inverse[: law.space.rank] = 1 / (law.space.eigenvalues + law.implicit_ridge)
        return inverse

    def _projected(self, rng: Generator) -> Array:
        rows, k = self.query_rows, self.law.k
        total = np.zeros((self.law.space.rank, len(rows)))
        for _ in range(self.law.ensemble):
            matrix = rng.standard_normal((rows.shape[1], k)) / np.sqrt(k)
            inside = matrix[: self.law.space.rank]
            gram = (inside.T * self.law.space.eigenvalues) @ inside
            gram[np.diag_indices(k)] += self.law.ridge
            total += inside @ cho_solve(cho_factor(gram, overwrite_a=True), matrix.T @ rows.T)
        return self.law.space.training[self.points] @ total / self.law.ensemble

    @cached_property
    def _limit_rows(self) -> tuple[Array, Array, Array]:
        """RA (n, m) of the drawn points, and Q, T of the queries' R-rows (m + q, q) = QT."""
        basis, triangle = qr((self.query_rows * self.inverse(self.law)).T, mode="economic")
        return self.law.rows[self.points], basis, triangle

    def _limit(self, rng: Generator) -> Array:
        rows, basis, triangle = self._limit_rows
        free = rng.standard_normal(basis.shape)
        inner = rng.standard_normal((basis.shape[1],) * 2)
        shaken = free - basis @ (basis.T @ free) + basis @ (inner + inner.T) / np.sqrt(2)
        mean = self.law.mean[np.ix_(self.points, self.queries)]
        return mean + np.sqrt(self.law.noise) * rows @ (shaken @ triangle)[: rows.shape[1]]
