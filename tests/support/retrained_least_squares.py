"""Least squares refitted to random subsets, many at once: a linear datamodelling score whose truth is known."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy.stats import rankdata


class Population:
    """One data set (n, p), 200 queries with their scores, and refits to any subsets.

    correlation: of the queries' directions with each other. blur: noise on the scores, in their own spread.
    """

    def __init__(self, *, n=60, p=10, correlation=0.0, blur=0.0, ridge=1.0, reference=4000, seed=0):
        self.rng = rng = np.random.default_rng(seed)
        self.rows, self.ridge, self.reference = rng.standard_normal((n, p)), ridge, reference
        self.targets = self.rows @ rng.standard_normal(p) / np.sqrt(p) + rng.standard_normal(n)
        shared = np.sqrt(correlation) * rng.standard_normal(p)
        self.queries = shared + np.sqrt(1 - correlation) * rng.standard_normal((200, p))
        hessian = self.rows.T @ self.rows + ridge * np.eye(p)
        residual = self.rows @ np.linalg.solve(hessian, self.rows.T @ self.targets) - self.targets
        self.scores = -residual[:, None] * (self.rows @ np.linalg.solve(hessian, self.queries.T))
        self.scores = self.scores + blur * self.scores.std() * rng.standard_normal(self.scores.shape)

    @cached_property
    def truth(self):
        """LDS (q,) over `reference` subsets."""
        subsets = self.subsets(self.reference)
        return spearman_columns(self.scores[subsets].sum(1), self.retrain(subsets) @ self.queries.T)

    def subsets(self, count):
        n = len(self.rows)
        return np.argsort(self.rng.random((count, n)), axis=1)[:, : n // 2]

    def retrain(self, subsets):
        """Coefficients (B, p) at half the ridge."""
        rows, targets = self.rows[subsets], self.targets[subsets][..., None]
        hessian = rows.mT @ rows + self.ridge / 2 * np.eye(rows.shape[2])
        return np.linalg.solve(hessian, rows.mT @ targets)[..., 0]

    def draw(self, count, queries):
        """Scores (n, q), subsets (B, m), outputs (B, q) of `queries` drawn at random, and which (q,)."""
        chosen = self.rng.choice(200, queries)
        subsets = self.subsets(count)
        return self.scores[:, chosen], subsets, self.retrain(subsets) @ self.queries[chosen].T, chosen


def spearman_columns(first, second):
    a, b = (rankdata(values, axis=0) for values in (first, second))
    return np.array([np.corrcoef(x, y)[0, 1] for x, y in zip(a.T, b.T, strict=True)])
