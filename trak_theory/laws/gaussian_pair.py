"""The joint law of a true influence and its estimate, and every rank measure that follows from it.

Up to a scale, I = A G₁ and T = A w G₂: A ≥ 0 is the size that a point brings (|residual| × row scale), w what the
estimate makes of it, (G₁, G₂) standard normal with correlation ρ₀ and independent of (A, w).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy import ndarray as Array
from scipy.optimize import brentq
from scipy.special import ndtr

from trak_theory.numerics.quadrature import gauss_rule

GROUPS = 32  # of equal mass in w, where w takes more values
NODES = 10  # for A within a group, and for the law of A or A w alone
ORTHANT_NODES = 48


@dataclass(frozen=True, eq=False)
class ScoreLaw:
    """Quadrature over (A, w) with weights (m,), and the correlation ρ₀ of the normal factors."""

    size: Array
    factor: Array
    weight: Array
    correlation: float

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
        """(2/π) E asin(ρ₀ (A₁B₁ + A₂B₂)/√((A₁² + A₂²)(B₁² + B₂²))), B = A w: (2/π) asin ρ₀ where w is constant."""
        size, factor, weight = self._short
        a, b = size**2, (size * factor) ** 2
        both = size**2 * factor
        cosine = (both[:, None] + both) / np.sqrt((a[:, None] + a) * (b[:, None] + b))
        return float(2 / np.pi * weight @ np.arcsin(_clip(self.correlation * cosine)) @ weight)

    @property
    def spearman(self) -> float:
        """(6/π) E asin(ρ₀ A₁B₁/√((A₁² + A₂²)(B₁² + B₃²))) over three independent points, B = A w."""
        size, factor, weight = self._short
        others, masses = _short_rule(self.size, self.weight, self._scale)
        thirds, third_masses = _short_rule(self.size * self.factor, self.weight, self._scale)
        first = size[:, None] / np.hypot(size[:, None], others)
        second = (size * factor)[:, None] / np.hypot((size * factor)[:, None], thirds)
        cosine = self.correlation * first[:, :, None] * second[:, None, :]
        return float(6 / np.pi * weight @ (np.arcsin(_clip(cosine)) @ third_masses @ masses))

    def top_overlap(self, share: float) -> float:
        """Share of the truth's top `share` (most positive) that the estimate's top holds."""
        size, factor, weight = self._short
        truth, estimate = (_threshold(each, weight, share) / each for each in (size, size * factor))
        return float(weight @ upper_orthant(truth, estimate, self.correlation)) / share

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


def upper_orthant(first: Array, second: Array, correlation: float) -> Array:
    """P(G₁ > a, G₂ > b) for standard normals of that correlation ≥ 0, elementwise."""
    first, second = np.minimum(first, 40.0), np.minimum(second, 40.0)
    if correlation >= 1.0:
        return ndtr(-np.maximum(first, second))
    nodes, weights = np.polynomial.legendre.leggauss(ORTHANT_NODES)
    limit = np.arcsin(correlation)
    sine = np.sin(0.5 * limit * (nodes + 1.0))
    a, b = first[..., None], second[..., None]
    exponent = -(a**2 + b**2 - 2 * a * b * sine) / (2 * (1.0 - sine**2))
    return ndtr(-first) * ndtr(-second) + limit / (4 * np.pi) * np.exp(exponent) @ weights
