"""The normal law of the errors of scores, in coordinates in which they are independent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array
from scipy.linalg import eigh

from trak_theory.auditing.checking.score_draws import ScoreDraws
from trak_theory.projection.kernel_law import KernelLaw

WEAK = 1e-4  # directions with less than this share of the largest variance are taken together


@dataclass(frozen=True, eq=False)
class Whitening:
    """The normal law of errors with covariance (rr'φR²φ') × (φ*R²φ*) c/J, in its eigenvectors.

    left, right  eigenvectors between points (n, n) and between queries (q, q)
    variances    (n, q) eigenvalues, those that are not strong set to the smallest strong one
    strong       (n, q) at least a share of WEAK of the largest
    mean         (n, q) in the eigenvectors
    lengths      (q,) variance of each query's errors, up to a factor: φ*R²φ*
    """

    left: Array
    right: Array
    variances: Array
    strong: Array
    mean: Array
    lengths: Array

    def rotated(self, scores: Array) -> Array:
        return self.left.T @ scores @ self.right

    def query_gains(self, scores: Array) -> Array:
        """Gains (q(q − 1),) in log-likelihood of each column of scores, if it were that of another query.

        Of scores without their factor; in the directions between points that are strong for some query.
        """
        given, means = self._between_points(scores)
        squares = np.sum(given**2, 0)[:, None] + np.sum(means**2, 0) - 2 * given.T @ means
        fits = -0.5 * squares / self.lengths - 0.5 * len(given) * np.log(self.lengths)
        gains = fits - np.diag(fits)[:, None]
        return np.asarray(gains[~np.eye(len(gains), dtype=bool)])

    def standardised(self, scores: Array) -> tuple[Array, float]:
        """Errors (m, q) of T = s(mean + error) in units of their sd, and the correlation of T with the mean so.

        At the likeliest s; every direction between points that is strong for some query, for every query.
        """
        given, means = (rows / np.sqrt(self.lengths) for rows in self._between_points(scores))
        energy, cross = float(np.sum(given**2)), float(np.sum(given * means))
        scale = _likeliest(energy, cross, given.size)
        return given / scale - means, cross / float(np.sqrt(energy * np.sum(means**2)))

    def _between_points(self, scores: Array) -> tuple[Array, Array]:
        """Scores and their means (m, q), each direction that is strong for some query in its unit."""
        strong = self.strong.any(1)
        roots = np.sqrt(self.variances[strong].max(1))[:, None]
        return (self.left.T @ scores)[strong] / roots, (self.mean @ self.right.T)[strong] / roots

    def log_likelihood(self, scores: Array) -> float:
        """Of T = s(mean + error), maximised over s."""
        scores = self.rotated(scores)[self.strong]
        mean, variances = self.mean[self.strong], self.variances[self.strong]
        energy, cross = np.sum(scores**2 / variances), np.sum(scores * mean / variances)
        scale = _likeliest(float(energy), float(cross), variances.size)
        error = np.sum((scores / scale - mean) ** 2 / variances)
        return float(-0.5 * error - variances.size * np.log(scale) - 0.5 * np.sum(np.log(variances)))


def _likeliest(energy: float, cross: float, count: int) -> float:
    """The factor s > 0 with N s² + s⟨T, m⟩ − |T|² = 0 in whitened products, in the stable form of the root."""
    return 2 * energy / (cross + float(np.sqrt(cross**2 + 4 * count * energy)))


def whitening_of(draws: ScoreDraws, law: KernelLaw) -> Whitening:
    """Of the drawn points and queries, for their law or that of another setting."""
    points, queries = draws.points, draws.queries
    rows = draws.residual[points, None] * law.rows[points]
    columns = draws.query_rows * draws.inverse(law)
    between, left = eigh(rows @ rows.T * law.noise)
    among, right = eigh(columns @ columns.T)
    variances = np.outer(between, among)
    strong = variances > WEAK * variances.max()
    mean = -draws.residual[points, None] * law.mean[np.ix_(points, queries)]
    lengths = np.einsum("qm,qm->q", columns, columns) / among[-1]
    floored = np.maximum(variances, WEAK * variances.max())
    return Whitening(left, right, floored, strong, left.T @ mean @ right, lengths)
