"""The law of TRAK scores from features that are already projected: no unprojected gradient is needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy import ndarray as Array
from scipy.linalg import eigh
from scipy.optimize import brentq

from trak_theory.numerics.gram import blocked_gram
from trak_theory.numerics.whitening import EPS


@dataclass(frozen=True, eq=False)
class ProjectedKernel:
    """One drawn kernel xᵀGx*, G = (XᵀX + μI)⁻¹, of projected rows X = ΦP (n, k) and X* = Φ*P (q, k).

    With t₁ = tr G and t₂ = tr G², consistently for the γ, df and df₂ of the unprojected features,

        γ = k/t₁        df = k − μt₁        k − df₂ = t₁²/t₂
        Var φ_iᵀK_Pφ*_j = [(x_iᵀG²x_i)(x*_jᵀG²x*_j) + (x_iᵀG²x*_j)²]/t₂

    Derivation: 1 − df/k = μt₁/k in μ = γ(1 − df/k); −d/dμ of E K_P = R(γ(μ)) is E P G²Pᵀ = (k/(k − df₂)) R².
    Relative noise of each number O(1/√(k − df₂)), as it comes from one draw. Source: ours.
    """

    features: Array
    queries: Array
    ridge: float

    @cached_property
    def eigen(self) -> tuple[Array, Array]:
        values, vectors = eigh(blocked_gram(self.features), driver="evd", check_finite=False)
        return np.maximum(values, 0.0), vectors

    def at(self, ridge: float) -> ProjectedKernel:
        """The same projection with another μ; the eigendecomposition is shared."""
        other = ProjectedKernel(self.features, self.queries, ridge)
        other.__dict__.update({name: getattr(self, name) for name in ("eigen", "rotated")})
        return other

    @property
    def k(self) -> int:
        return self.features.shape[1]

    @cached_property
    def singular(self) -> bool:
        """No kernel: μ = 0 and XᵀX is singular in floating point."""
        values, _ = self.eigen
        return self.ridge == 0 and bool(values[0] <= max(self.features.shape) * EPS * values[-1])

    @cached_property
    def inverse(self) -> Array:
        return 1.0 / (self.eigen[0] + self.ridge)

    @cached_property
    def implicit_ridge(self) -> float:
        return float(self.k / self.inverse.sum())

    @cached_property
    def effective_dimension(self) -> float:
        return float(self.k - self.ridge * self.inverse.sum())

    @cached_property
    def residual_degrees_of_freedom(self) -> float:
        """k − df₂."""
        return float(self.inverse.sum() ** 2 / np.sum(self.inverse**2))

    @cached_property
    def rotated(self) -> tuple[Array, Array]:
        vectors = self.eigen[1]
        return self.features @ vectors, self.queries @ vectors

    @cached_property
    def kernel(self) -> Array:
        """x_iᵀGx*_j (n, q): the drawn kernel itself."""
        training, queries = self.rotated
        return (training * self.inverse) @ queries.T

    @cached_property
    def variance(self) -> Array:
        """Its variance over projections (n, q)."""
        training, queries = (rows * self.inverse for rows in self.rotated)
        lengths = np.outer(np.einsum("ik,ik->i", training, training), np.einsum("qk,qk->q", queries, queries))
        return (lengths + (training @ queries.T) ** 2) / np.sum(self.inverse**2)

    def energies(self, other: ProjectedKernel, residual: Array) -> tuple[float, float]:
        """⟨M, M′⟩ and E⟨T − M, T′ − M′⟩ of T = −rK_P and T′ with the ridge of `other`, same projection.

        M, M′ are their means over projections; sums over points (centred) and queries. With W = GG′, y = r x centred,

            noise = [Σ_i y_iᵀWy_i Σ_j x*_jᵀWx*_j + Σ_ij (y_iᵀWx*_j)²]/tr W,        ⟨M, M′⟩ = ⟨T, T′⟩ − noise,

        which is (3.3) for two ridges: the resolvent identity gives E P G G′Pᵀ ≃ k/(k − df₁₂) R R′ with
        df₁₂ = tr S R S R′, and tr W = k²/(γγ′(k − df₁₂)). Source: ours.
        """
        training, queries = self.rotated
        rows = residual[:, None] * training
        rows -= rows.mean(0)
        weights = self.inverse * other.inverse
        lengths = np.sum(rows**2 * weights) * np.sum(queries**2 * weights)
        noise = float((lengths + np.sum(((rows * weights) @ queries.T) ** 2)) / weights.sum())
        scores, others = ((rows * kernel.inverse) @ queries.T for kernel in (self, other))
        return float(np.sum(scores * others)) - noise, noise

    def reliability(self, residual: Array, ensemble: int = 1) -> float:
        """Pearson correlation of the mean of J draws of −r_i K_P with its mean over projections; `pearson_with`."""
        return self.pearson_with(self, residual, ensemble)

    def pearson_with(self, other: ProjectedKernel, residual: Array, ensemble: int = 1) -> float:
        """Pearson correlation of T, averaged over J projections, with M′: the unprojected kernel at the ridge γ(μ′).

        ⟨M, M′⟩/√((|M|² + noise/J) |M′|²), centred over points, pooled over queries, each part from the draw at hand.
        0 where that leaves no signal.
        """
        cross, _ = self.energies(other, residual)
        own, noise = self.energies(self, residual)
        target, _ = other.energies(other, residual)
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


def weighted_implicit_ridge(features: Array, curvature: Array, training: float, fraction: float | None) -> float:
    """λ of the curvature-weighted kernel of the *unprojected* features, from projected ones X (n, k).

    Along μ the projected, curvature-weighted rows D^½X read off pairs (λ(μ), df(λ)); the root of the subset rule is
    found on that curve. Without `fraction` it is the training ridge.
    """
    if fraction is None or fraction == 1:
        return training
    n, k = features.shape
    rows = np.sqrt(curvature)[:, None] * features
    values = np.maximum(eigh(rows.T @ rows, eigvals_only=True, check_finite=False), 0.0)

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
