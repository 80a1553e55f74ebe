"""Restored influence from sketched gradients and curvature directions: ridge, scores and their error bars."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy import ndarray as Array
from scipy.linalg import cho_factor, cho_solve, eigvalsh

from trak_theory.projection.sketched_spectrum import SketchedSpectrum
from trak_theory.retraining.ridge_rule import inflated_ridge

SHORT = 1.001  # of the wanted ridge: a sketch that cannot shrink less than this is too small


def gram_spectrum(gram: Array) -> SketchedSpectrum:
    """Of a Gram matrix XᵀX (k, k), with no ridge yet."""
    return SketchedSpectrum(np.maximum(eigvalsh(gram, check_finite=False), 0.0), 0.0)


@dataclass(eq=False)
class SketchedCurvature:
    """Sums over n samples as they come: the Gram matrix of their curvature directions, and what gives the ridge."""

    n: int
    gram: Array  # (k, k)
    _pulled: list[Array] = field(default_factory=list)  # while n ≤ k
    _pulled_gram: Array | None = None
    _rest: list[Array] = field(default_factory=list)

    def add(self, rows: Array, rest: Array, weights: Array) -> None:
        """rows (b, 1 + m, k) of the gradient g_i and the directions, rest (·, k), weights (b,).

        √weight·g_i = √d_i φ_i, the one direction in which the loss of a point pulls.
        """
        k = rows.shape[2]
        own = rows[:, 1:].reshape(-1, k).astype(float)
        self.gram += own.T @ own
        pulled = np.sqrt(weights)[:, None] * rows[:, 0]
        if self.n <= k:
            self._pulled.append(pulled)
        else:
            self._pulled_gram = pulled.T @ pulled + (0.0 if self._pulled_gram is None else self._pulled_gram)
        self._rest.append(rest)

    def rule_ridge(self, training: float, *, fraction: float | None) -> float:
        """λ of `ridge_rule`, from the degrees of freedom that the sketch shows."""
        if fraction is None:
            return training
        pulls = self._pulls()
        return inflated_ridge(
            lambda at: pulls.standing_for(at).effective_dimension, training, n=self.n, fraction=fraction
        )

    def influence(self, queries: Array, ridge: float) -> SketchedInfluence:
        return SketchedInfluence(self.gram, queries, np.concatenate(self._rest), ridge)

    def _pulls(self) -> SketchedSpectrum:
        if self._pulled_gram is not None:
            return gram_spectrum(self._pulled_gram)
        rows = np.concatenate(self._pulled)
        values = np.maximum(eigvalsh(rows @ rows.T, check_finite=False), 0.0)
        return SketchedSpectrum(np.pad(values, (len(self.gram) - len(values), 0)), 0.0)


@dataclass(frozen=True, eq=False)
class SketchedInfluence:
    """T_ij = −x_iᵀG x*_j, G = (Σ_a y_ay_aᵀ + μI)⁻¹, with μ such that E G stands for the ridge λ of unsketched rows.

    gram (k, k)      Σ_a y_ay_aᵀ of sketched curvature directions y
    queries (q, k)   x*_j
    rest (N, k)      sketched curvature directions z that are not in the Gram matrix
    ridge λ          of the unsketched kernel; the x_i are given block by block

    E T ≃ −g_iᵀ(ΨᵀΨ + γI)⁻¹φ*_j over sketches, γ = k/tr G, which is λ while k exceeds df(λ), and

        Var T_ij ≃ [(x_iᵀG²x_i)(x*_jᵀG²x*_j) + (x_iᵀG²x*_j)²]/tr G².

    Source: `ProjectedKernel`, whose left vectors are the rows of its Gram matrix; here they are any.
    """

    gram: Array
    queries: Array
    rest: Array
    ridge: float

    @cached_property
    def spectrum(self) -> SketchedSpectrum:
        return gram_spectrum(self.gram).standing_for(self.ridge)

    @property
    def effective_dimension(self) -> float:
        return self.spectrum.effective_dimension

    @property
    def projected_ridge(self) -> float:
        return self.spectrum.ridge

    @property
    def warnings(self) -> tuple[str, ...]:
        found, k = self.spectrum, self.spectrum.k
        if found.implicit_ridge <= SHORT * self.ridge:
            return ()
        return (
            f"k = {k} is too small for the ridge λ = {self.ridge:.3g}: with μ = 0 it already shrinks like "
            f"{found.implicit_ridge:.3g}; use a larger k, or average several sketches and expect too little",
        )

    def of(self, gradients: Array) -> tuple[Array, Array]:
        """Scores of the gradients x (b, k) of some losses, presence sign, and their variance over sketches: (b, q)."""
        left, right = self._solved(gradients), self._right
        lengths = np.outer(np.einsum("ik,ik->i", left, left), np.einsum("qk,qk->q", right, right))
        return -gradients @ right.T, (lengths + (left @ right.T) ** 2) / self.spectrum.square_trace

    @property
    def neglected(self) -> Array:
        """An upper bound on the df that each direction z would add, (N,).

        df(S + zzᵀ) ≤ df(S) + γ zᵀR²z, since df is concave in S; and zᵀR²z ≃ (1 − df₂/k) xᵀG²x of the sketched x.
        """
        found, solved = self.spectrum, self._solved(self.rest)
        share = found.residual_degrees_of_freedom / found.k
        return found.implicit_ridge * share * np.einsum("ik,ik->i", solved, solved)

    @cached_property
    def _right(self) -> Array:
        return self._solved(self.queries)

    @cached_property
    def _factor(self) -> tuple[Array, bool]:
        shifted = self.gram.copy()
        shifted[np.diag_indices(len(shifted))] += self.spectrum.ridge
        return cho_factor(shifted, overwrite_a=True, check_finite=False)

    def _solved(self, rows: Array) -> Array:
        """G x (N, k)."""
        return cho_solve(self._factor, rows.T.astype(float), check_finite=False).T
