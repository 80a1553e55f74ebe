"""The joint law of a true influence and its estimate, and every rank measure that follows from it.

Up to a scale, I = A G₁ and T = A w G₂: A ≥ 0 is the size that a point brings (|residual| × row scale), w what the
estimate makes of it, (G₁, G₂) standard normal with correlation ρ₀ and independent of (A, w). Sparse rows share only
some of their query's coordinates: given how many, (G₁, G₂) is still normal, with another covariance (`Sharing`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import ndtr

from trak_theory.numerics.quadrature import gauss_rule

GROUPS = 32  # of equal mass in w, where w takes more values
NODES = 10  # for A within a group, and for the law of A or A w alone
ORTHANT_NODES = 48


@dataclass(frozen=True, eq=False)
class Sharing:
    """Var G₁ = 1 + a(t − 1), Var G₂ = 1 + b(t − 1), Cov = ρ₀(1 + c(t − 1)), t ≥ 0 of mean 1 drawn for each point.

    t              Σ x*_a² over the coordinates a that a row shares with its query, over its mean
    truth a, estimate b, between c   the share of the kernels' diagonals in q₁₁, v and q₁₂
    """

    nodes: Array
    weights: Array
    truth: float
    estimate: float
    between: float


NOTHING_SHARED = Sharing(np.ones(1), np.ones(1), 0.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class ScoreLaw:
    """Quadrature over (A, w) with weights (m,), the correlation ρ₀ of the normal factors, and their `Sharing`."""

    size: Array
    factor: Array
    weight: Array
    correlation: float
    sharing: Sharing = NOTHING_SHARED

    @property
    def gain(self) -> float:
        """E[A²w] / E A²."""
        square = self.weight * self.size**2
        return float(square @ self.factor / square.sum())

    @property
    def pearson(self) -> float:
        """ρ₀ E[A²w] / √(E A² E A²w²)."""
        square = self.weight * self.size**2
        return min(1.0, float(self.correlation * self.gain * np.sqrt(square.sum() / (square @ self.factor**2))))

    @property
    def kendall(self) -> float:
        """(2/π) E asin((C₁ + C₂)/√((V₁ + V₂)(W₁ + W₂))): (2/π) asin ρ₀ where w and t are constant."""
        truth, estimate, between, weight = self._variances
        cosine = (between[:, None] + between) / np.sqrt((truth[:, None] + truth) * (estimate[:, None] + estimate))
        return float(2 / np.pi * weight @ np.arcsin(_clip(cosine)) @ weight)

    @property
    def spearman(self) -> float:
        """(6/π) E asin(C₁/√((V₁ + V₂)(W₁ + W₃))) over three independent points."""
        truth, estimate, between, weight = self._variances
        others, masses = _short_rule(np.sqrt(truth), weight, self._scale)
        thirds, third_masses = _short_rule(np.sqrt(estimate), weight, self._scale)
        first = 1 / np.sqrt(truth[:, None] + others**2)
        second = between[:, None] / np.sqrt(estimate[:, None] + thirds**2)
        cosine = first[:, :, None] * second[:, None, :]
        return float(6 / np.pi * weight @ (np.arcsin(_clip(cosine)) @ third_masses @ masses))

    def top_overlap(self, share: float) -> float:
        """Share of the truth's top `share` (most positive) that the estimate's top holds."""
        truth, estimate, between, weight = self._variances
        sizes = np.sqrt(truth), np.sqrt(estimate)
        first, second = (_threshold(size, weight, share) / size for size in sizes)
        return float(weight @ upper_orthant(first, second, _clip(between / (sizes[0] * sizes[1])))) / share

    @cached_property
    def _variances(self) -> tuple[Array, Array, Array, Array]:
        """V = Var I, W = Var T, C = Cov(I, T) given (A, w, t), with their weights; all (m l,)."""
        size, factor, weight = self._short
        shared, excess = self.sharing, self.sharing.nodes - 1.0
        parts = (
            np.outer(size**2, 1.0 + shared.truth * excess),
            np.outer((size * factor) ** 2, 1.0 + shared.estimate * excess),
            np.outer(self.correlation * size**2 * factor, 1.0 + shared.between * excess),
            np.outer(weight, shared.weights),
        )
        truth, estimate, between, weight = (part.ravel() for part in parts)
        return truth, estimate, between, weight

    @property
    def _scale(self) -> float:
        return float(np.sqrt(np.average(self.size**2, weights=self.weight)))

    @cached_property
    def _short(self) -> tuple[Array, Array, Array]:
        """A short rule for the pair (A, w): groups of (nearly) equal w, a Gauss rule for A in each."""
        values, group = np.unique(self.factor, return_inverse=True)
        if values.size > GROUPS:
            order = np.argsort(self.factor, kind="stable")
            middle = np.cumsum(self.weight[order]) - 0.5 * self.weight[order]
            group = np.empty(order.size, int)
            group[order] = np.minimum(GROUPS * middle / self.weight.sum(), GROUPS - 1).astype(int)
        parts = []
        for label in np.unique(group):
            inside = group == label
            nodes, masses = _short_rule(self.size[inside], self.weight[inside], self._scale)
            mean = np.average(self.factor[inside], weights=self.weight[inside])
            parts.append((nodes, np.full(nodes.size, mean), masses))
        size, factor, weight = map(np.concatenate, zip(*parts, strict=True))
        return size, factor, weight


def _short_rule(size: Array, weight: Array, scale: float) -> tuple[Array, Array]:
    """Gauss rule for a law on (0, ∞), in the bounded variable A/(A + scale)."""
    nodes, masses = gauss_rule(size / (size + scale), weight, NODES)
    nodes = np.maximum(nodes, 1e-12)  # an atom at 0 comes back with rounding of either sign
    return scale * nodes / (1.0 - nodes), masses


def _clip(cosine: Array) -> Array:
    return np.clip(cosine, -1.0, 1.0)


def _threshold(size: Array, weight: Array, share: float) -> float:
    """t with P(A G > t) = share."""
    return float(brentq(lambda t: weight @ ndtr(-t / size) - share, 0.0, 40.0 * size.max(), xtol=1e-12 * size.max()))


@lru_cache(maxsize=1)
def _legendre_rule() -> tuple[Array, Array]:
    return np.polynomial.legendre.leggauss(ORTHANT_NODES)


def upper_orthant(first: Array, second: Array, correlation: ArrayLike) -> Array:
    """P(G₁ > a, G₂ > b) for standard normals of that correlation in [0, 1], elementwise."""
    first, second = np.minimum(first, 40.0), np.minimum(second, 40.0)
    nodes, weights = _legendre_rule()
    correlation = np.asarray(correlation, float)[..., None]
    limit = np.arcsin(np.minimum(correlation, 1.0))
    sine = np.sin(0.5 * limit * (nodes + 1.0))
    a, b = first[..., None], second[..., None]
    exponent = -(a**2 + b**2 - 2 * a * b * sine) / (2 * (1.0 - sine**2))
    inside = ndtr(-first) * ndtr(-second) + limit[..., 0] / (4 * np.pi) * (np.exp(exponent) @ weights)
    return np.where(correlation[..., 0] >= 1.0, ndtr(-np.maximum(first, second)), inside)
