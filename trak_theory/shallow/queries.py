"""Query outputs g_j(θ), one number for each query point, with gradient and curvature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array

from trak_theory.numerics.whitening import EPS
from trak_theory.shallow.heads import Head
from trak_theory.shallow.outputs import OutputMap, tangent


@dataclass(frozen=True, eq=False)
class Queries:
    """The head's measure g (its output, or its margin) at q points."""

    outputs: OutputMap
    head: Head

    @property
    def count(self) -> int:
        return self.outputs.shape[0]

    def value(self, theta: Array) -> Array:
        """g (B, q) at parameters (B, p)."""
        return self.head.measure(self.outputs.at(theta).value)

    def rounding(self, theta: Array) -> Array:
        """What rounding does to g (q,) at one θ (p,)."""
        size = np.linalg.norm(self.outputs.at(theta[None]).value[0], axis=-1)
        return self.head.measure_suprema[0] * (self.outputs.rounding(theta)[0] + 4.0 * EPS * size)

    def gradient(self, theta: Array) -> Array:
        """∇g (q, p) at one θ (p,)."""
        f = self.outputs.at(theta[None]).value[0]
        return np.einsum("qc,qcp->qp", self.head.measure_gradient(f), self.outputs.jacobian(theta))

    def curvature_along(self, theta: Array, v: Array) -> Array:
        """vᵀ∇²g v (B, q) at one θ (p,) along directions v (B, p)."""
        expansion = self.outputs.at(theta[None])
        slope = self.head.measure_gradient(expansion.value)
        outer = self.head.measure_along(expansion.value, expansion.jvp(v))
        return outer + (slope * expansion.quadratic(v)).sum(-1)

    def linear(self, theta: Array) -> Queries:
        """The same measure of the tangent model at θ."""
        return Queries(tangent(self.outputs, theta), self.head)
