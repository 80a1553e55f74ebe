"""The law of a randomly projected kernel φᵀP(PᵀSP + μI)⁻¹Pᵀφ*, S = ΦᵀΦ, over the projection P (p, k)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy import ndarray as Array

from trak_theory.numerics.spectrum import Spectrum

FEW_DEGREES_OF_FREEDOM = 10.0  # relative error of the law is O(1/(k − df₂)): below this it is no longer a number


@dataclass(frozen=True, eq=False)
class KernelLaw:
    """Mean and variance of the kernel, averaged over `ensemble` = J projections to k dimensions, ridge μ.

    With γ the implicit ridge, R = (S + γI)⁻¹ and c = γ²/(k − df₂(γ)):

        E φᵀK_Pφ* ≃ φᵀRφ*        Var φᵀK_Pφ* ≃ (c/J) [(φᵀR²φ)(φ*ᵀR²φ*) + (φᵀR²φ*)²]

    Without a single kernel (μ = 0 and k > rank: PᵀSP is singular) everything is NaN and `diagnosis` says why.
    """

    space: Spectrum
    k: int
    ensemble: int = 1
    ridge: float = 0.0

    @property
    def singular(self) -> bool:
        return self.ridge == 0 and self.k > self.space.rank

    @cached_property
    def implicit_ridge(self) -> float:
        """γ, the root of μ = γ(1 − df(γ)/k)."""
        return self.space.implicit_ridge(self.k, self.ridge)

    @cached_property
    def effective_dimension(self) -> float:
        """df(γ) = tr SR."""
        return self.space.degrees_of_freedom(self.implicit_ridge)

    @cached_property
    def residual_degrees_of_freedom(self) -> float:
        """k − df₂(γ): the degrees of freedom that the error bars rest on."""
        return self.k - self.space.second_degrees_of_freedom(self.implicit_ridge)

    @cached_property
    def noise(self) -> float:
        """c/J = γ²/(J(k − df₂))."""
        if self.singular:
            return np.nan
        if not self.implicit_ridge > 0:
            return 0.0
        return self.implicit_ridge**2 / (self.ensemble * self.residual_degrees_of_freedom)

    @cached_property
    def rows(self) -> Array:
        """Rφ_i (n, m) in the coordinates of the spectrum."""
        return self.space.training / (self.space.eigenvalues + self.implicit_ridge)

    @cached_property
    def mean(self) -> Array:
        """φ_iᵀRφ*_j (n, q)."""
        return np.full(self._shape, np.nan) if self.singular else self.rows @ self.space.queries.T

    @cached_property
    def square(self) -> Array:
        """φ_iᵀR²φ*_j (n, q)."""
        return self.rows @ (self.space.queries / (self.space.eigenvalues + self.implicit_ridge)).T

    @cached_property
    def training_square(self) -> Array:
        """φ_iᵀR²φ_i (n,)."""
        return np.einsum("im,im->i", self.rows, self.rows)

    @cached_property
    def noisy_query_square(self) -> Array:
        """(c/J) φ*_jᵀR²φ*_j (q,); infinite at γ = 0 for a query outside the span of the training rows."""
        inside = self.space.queries / (self.space.eigenvalues + self.implicit_ridge)
        inside = self.noise * np.einsum("qm,qm->q", inside, inside)
        if self.implicit_ridge > 0:
            return inside + self.space.outside / (self.ensemble * self.residual_degrees_of_freedom)
        length = np.einsum("qm,qm->q", self.space.queries, self.space.queries)
        return inside + np.where(self.space.outside > 1e-12 * length, np.inf, 0.0)

    @cached_property
    def variance(self) -> Array:
        """Var φ_iᵀK_Pφ*_j (n, q) for normal projections."""
        return np.outer(self.training_square, self.noisy_query_square) + self.noise * self.square**2

    @property
    def _shape(self) -> tuple[int, int]:
        return len(self.space.training), len(self.space.queries)

    @property
    def diagnosis(self) -> str:
        """Reason why scores of this kernel mean nothing, in words; empty if there is none."""
        setting = f"k = {self.k}, rank {self.space.rank}, projected ridge μ = {self.ridge:g}"
        if self.singular:
            return (
                f"{setting}: k exceeds the rank and μ = 0, so the projected Gram matrix is singular and what a "
                "package returns for its inverse is rounding noise; choose k below the rank or μ > 0"
            )
        if self.implicit_ridge == 0 and self.k < self.space.p:
            return (
                f"{setting}: k equals the rank and μ = 0, so the variance over projections is infinite for queries "
                "outside the span of the training rows; choose k below the rank or μ > 0"
            )
        freedom = self.residual_degrees_of_freedom
        if 0 < freedom < FEW_DEGREES_OF_FREEDOM:
            remedy = "larger k" if self.k < 2 * FEW_DEGREES_OF_FREEDOM else "smaller k or a larger μ"
            return (
                f"{setting}: k − df₂ = {freedom:.3g} degrees of freedom are too few for the error bars, and the "
                f"scores vary wildly between projections; choose a {remedy}"
            )
        return ""
