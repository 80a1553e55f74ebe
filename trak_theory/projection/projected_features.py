"""The law of TRAK scores from features that are already projected: no unprojected gradient is needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy import ndarray as Array
from scipy.linalg import eigh
from scipy.optimize import brentq

from trak_theory.numerics.gram import blocked_gram, over_blocks, weighted_sum
from trak_theory.numerics.rows import Rows, rows_of
from trak_theory.numerics.whitening import EPS
from trak_theory.projection.sketched_spectrum import SketchedSpectrum


@dataclass(frozen=True, eq=False)
class ProjectedKernel:
    """One drawn kernel xᵀGx*, G = (XᵀX + μI)⁻¹, of projected rows X = ΦP (n, k) and X* = Φ*P (q, k).

    With t₁ = tr G and t₂ = tr G², consistently for the γ, df and df₂ of the unprojected features,

        γ = k/t₁        df = k − μt₁        k − df₂ = t₁²/t₂
        Var φ_iᵀK_Pφ*_j = [(x_iᵀG²x_i)(x*_jᵀG²x*_j) + (x_iᵀG²x*_j)²]/t₂

    Derivation: 1 − df/k = μt₁/k in μ = γ(1 − df/k); −d/dμ of E K_P = R(γ(μ)) is E P G²Pᵀ = (k/(k − df₂)) R².
    Relative noise of each number O(1/√(k − df₂)), as it comes from one draw. Source: ours.

    Rows are read in blocks, whenever they are needed: what is held has k² or n q numbers.
    """

    features: Array | Rows
    queries: Array
    ridge: float

    @cached_property
    def eigen(self) -> tuple[Array, Array]:
        values, vectors = eigh(blocked_gram(self.features), driver="evd", check_finite=False)
        return np.maximum(values, 0.0), vectors

    def at(self, ridge: float) -> ProjectedKernel:
        """The same projection with another μ; the eigendecomposition is shared."""
        other = ProjectedKernel(self.features, self.queries, ridge)
        other.__dict__.update({name: getattr(self, name) for name in ("eigen", "rotated_queries")})
        return other

    def of(self, start: int, stop: int) -> ProjectedKernel:
        """The same kernel of points start to stop alone, whose rows are read; the eigendecomposition is shared."""
        some = ProjectedKernel(rows_of(self.features).part(start, stop).read(), self.queries, self.ridge)
        some.__dict__.update({name: getattr(self, name) for name in ("eigen", "rotated_queries")})
        return some

    @property
    def k(self) -> int:
        return self.queries.shape[1]

    @cached_property
    def singular(self) -> bool:
        """No kernel: μ = 0 and XᵀX is singular in floating point."""
        values, _ = self.eigen
        return self.ridge == 0 and bool(values[0] <= max(rows_of(self.features).shape) * EPS * values[-1])

    @cached_property
    def inverse(self) -> Array:
        return 1.0 / (self.eigen[0] + self.ridge)

    @property
    def _spectrum(self) -> SketchedSpectrum:
        return SketchedSpectrum(self.eigen[0], self.ridge)

    @property
    def implicit_ridge(self) -> float:
        return self._spectrum.implicit_ridge

    @property
    def effective_dimension(self) -> float:
        return self._spectrum.effective_dimension

    @property
    def residual_degrees_of_freedom(self) -> float:
        """k − df₂."""
        return self._spectrum.residual_degrees_of_freedom

    @cached_property
    def rotated_queries(self) -> Array:
        """Queries in the eigenvectors of XᵀX (q, k)."""
        return self.queries @ self.eigen[1]

    @property
    def solved_queries(self) -> Array:
        """GX*ᵀ (k, q)."""
        return self.eigen[1] @ (self.inverse[:, None] * self.rotated_queries.T)

    @property
    def kernel(self) -> Array:
        """x_iᵀGx*_j (n, q): the drawn kernel itself."""
        solved = self.solved_queries
        return over_blocks(lambda rows: rows @ solved, self.features)

    @property
    def variance(self) -> Array:
        """Its variance over projections (n, q)."""
        rotation, queries = self.eigen[1] * self.inverse, self.rotated_queries * self.inverse
        lengths = np.einsum("qk,qk->q", queries, queries)

        def unscaled(rows: Array) -> Array:
            rotated = rows @ rotation
            return np.outer(np.einsum("ik,ik->i", rotated, rotated), lengths) + (rotated @ queries.T) ** 2

        return over_blocks(unscaled, self.features) / np.sum(self.inverse**2)

    def scatter(self, residual: Array) -> Array:
        """Σ_i y_iy_iᵀ (k, k) of y = r x, centred over points, in the eigenvectors of XᵀX."""
        mean = weighted_sum(self.features, residual) / len(residual)
        centred = blocked_gram(self.features, weights=residual**2) - len(residual) * np.outer(mean, mean)
        return np.asarray(self.eigen[1].T @ centred @ self.eigen[1])

    def energies(self, other: ProjectedKernel, scatter: Array) -> tuple[float, float]:
        """⟨M, M′⟩ and E⟨T − M, T′ − M′⟩ of T = −rK_P and T′ with the ridge of `other`, same projection.

        M, M′ are their means over projections; sums over points (centred) and queries. With W = GG′, y = r x centred
        and `scatter` Σ_i y_iy_iᵀ of r,

            noise = [Σ_i y_iᵀWy_i Σ_j x*_jᵀWx*_j + Σ_ij (y_iᵀWx*_j)²]/tr W,        ⟨M, M′⟩ = ⟨T, T′⟩ − noise,

        which is (3.3) for two ridges: the resolvent identity gives E P G G′Pᵀ ≃ k/(k − df₁₂) R R′ with
        df₁₂ = tr S R S R′, and tr W = k²/(γγ′(k − df₁₂)). Source: ours.
        """
        queries, weights = self.rotated_queries, self.inverse * other.inverse
        lengths = np.sum(np.diag(scatter) * weights) * np.sum(queries**2 * weights)
        noise = float((lengths + _form(queries * weights, scatter, queries * weights)) / weights.sum())
        return _form(queries * self.inverse, scatter, queries * other.inverse) - noise, noise

    def pearson_with(self, other: ProjectedKernel, scatter: Array, ensemble: int = 1) -> float:
        """Pearson correlation of T, averaged over J projections, with M′: the unprojected kernel at the ridge γ(μ′).

        ⟨M, M′⟩/√((|M|² + noise/J) |M′|²), centred over points, pooled over queries, each part from the draw at hand.
        0 where that leaves no signal.
        """
        cross, _ = self.energies(other, scatter)
        own, noise = self.energies(self, scatter)
        target, _ = other.energies(other, scatter)
        if own <= 0 or target <= 0:
            return 0.0
        return float(np.clip(cross / np.sqrt((own + noise / ensemble) * target), -1.0, 1.0))

    def projected_ridge(self, implicit: float) -> float:
        """The μ at which these k dimensions amount to the ridge γ; 0 where even μ = 0 shrinks more than that."""
        values = self.eigen[0]

        def excess(log_ridge: float) -> float:
            return float(self.k / np.sum(1 / (values + np.exp(log_ridge))) - implicit)

        low, high = np.log(max(implicit, 1e-300)) - 60, np.log(implicit)
        return float(np.exp(brentq(excess, low, high, xtol=1e-12))) if excess(low) < 0 else 0.0


def _form(left: Array, middle: Array, right: Array) -> float:
    """Σ_j l_jᵀMr_j of rows l, r (q, k)."""
    return float(np.sum((left @ middle) * right))


def weighted_implicit_ridge(features: Array | Rows, curvature: Array, training: float, fraction: float | None) -> float:
    """λ of the curvature-weighted kernel of the *unprojected* features, from projected ones X (n, k).

    Along μ the projected, curvature-weighted rows D^½X read off pairs (λ(μ), df(λ)); the root of the subset rule is
    found on that curve. Without `fraction` it is the training ridge.
    """
    if fraction is None or fraction == 1:
        return training
    n, k = features.shape
    values = np.maximum(eigh(blocked_gram(features, weights=curvature), eigvals_only=True, check_finite=False), 0.0)

    def excess(log_ridge: float) -> float:
        ridge = np.exp(log_ridge)
        trace = np.sum(1 / (values + ridge))
        leverage = (k - ridge * trace) / n
        odds = leverage / (1 - leverage) if leverage < 1 else np.inf
        return float(training * trace / k - (1 - odds * (1 - fraction) / fraction))

    high = np.log(training) + 1.0
    while excess(high) > 0:
        high += 1.0
    low = high - 80
    if excess(low) < 0:
        raise ValueError(f"k = {k} projected dimensions are too few for the rule at the training ridge {training:.4g}")
    return float(k / np.sum(1 / (values + np.exp(brentq(excess, low, high, xtol=1e-12)))))
