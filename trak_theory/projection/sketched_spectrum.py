"""What a random projection did to a kernel, from the eigenvalues of the projected Gram matrix alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy import ndarray as Array
from scipy.optimize import brentq

from trak_theory.numerics.whitening import EPS


@dataclass(frozen=True, eq=False)
class SketchedSpectrum:
    """G = (XᵀX + μI)⁻¹ of projected rows X = ΦP (n, k) through the k eigenvalues of XᵀX.

    With t₁ = tr G and t₂ = tr G², consistently for γ, df and df₂ of the unprojected rows,

        γ = k/t₁        df = k − μt₁        k − df₂ = t₁²/t₂

    eigenvalues (k,)   ≥ 0, in any order
    ridge μ            ≥ 0; with μ = 0 and a singular XᵀX there is no G, and γ = 0

    Derivation: 1 − df/k = μt₁/k in μ = γ(1 − df/k). Source: as `ProjectedKernel`.

    >>> SketchedSpectrum(np.array([3.0, 1.0]), 1.0).implicit_ridge
    2.6666666666666665
    """

    eigenvalues: Array
    ridge: float

    @property
    def k(self) -> int:
        return len(self.eigenvalues)

    @cached_property
    def _traces(self) -> tuple[float, float]:
        if self.ridge == 0 and self.rank < self.k:
            return np.inf, np.inf
        inverse = 1.0 / (self.eigenvalues + self.ridge)
        return float(inverse.sum()), float(np.sum(inverse**2))

    @property
    def rank(self) -> int:
        """Eigenvalues that are not rounding errors of the largest."""
        return int(np.sum(self.eigenvalues > self.k * EPS * self.eigenvalues.max(initial=0.0)))

    @property
    def implicit_ridge(self) -> float:
        return self.k / self._traces[0]

    @property
    def effective_dimension(self) -> float:
        first = self._traces[0]
        return float(self.rank) if np.isinf(first) else self.k - self.ridge * first

    @property
    def square_trace(self) -> float:
        """t₂ = tr G²."""
        return self._traces[1]

    @property
    def residual_degrees_of_freedom(self) -> float:
        """k − df₂."""
        first, second = self._traces
        return float(self.k - self.rank) if np.isinf(first) else first**2 / second

    def standing_for(self, implicit_ridge: float) -> SketchedSpectrum:
        """With the μ ≥ 0 whose γ is that ridge; μ = 0 where γ is larger already: k is too small for it."""
        if replace(self, ridge=0.0).implicit_ridge >= implicit_ridge:
            return replace(self, ridge=0.0)

        def excess(log_ridge: float) -> float:
            return float(np.log(replace(self, ridge=np.exp(log_ridge)).implicit_ridge / implicit_ridge))

        high = np.log(implicit_ridge)  # γ(μ) ≥ μ
        low = high - 1.0
        while excess(low) > 0:
            low -= 4.0
        return replace(self, ridge=float(np.exp(brentq(excess, low, high + 1e-9, xtol=1e-13, rtol=4 * EPS))))
