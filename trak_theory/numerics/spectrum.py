"""One eigendecomposition of the smaller Gram matrix: everything that a law of the kernel needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array
from scipy.linalg import eigh, eigvalsh
from scipy.optimize import brentq

from trak_theory.numerics.whitening import EPS

BLOCK = 4096


@dataclass(frozen=True, eq=False)
class Spectrum:
    """S = ΦᵀΦ = U diag(s) Uᵀ with the training and query rows in the coordinates of U.

    eigenvalues s (m,)     positive, m = rank S in floating point
    training A (n, m)      φ_iᵀU, so that φ_iᵀ g(S) φ_i′ = Σ_j A_ij g(s_j) A_i′j
    queries B (q, m)       φ*ᵀU
    outside (q,)           squared length of each query's part orthogonal to all training rows
    p                      dimension of the features
    """

    eigenvalues: Array
    training: Array
    queries: Array
    outside: Array
    p: int

    @property
    def rank(self) -> int:
        return self.eigenvalues.size

    def degrees_of_freedom(self, ridge: float) -> float:
        """df(γ) = tr S(S + γI)⁻¹."""
        return float(np.sum(self.eigenvalues / (self.eigenvalues + ridge)))

    def second_degrees_of_freedom(self, ridge: float) -> float:
        """df₂(γ) = tr [S(S + γI)⁻¹]²."""
        return float(np.sum((self.eigenvalues / (self.eigenvalues + ridge)) ** 2))

    def implicit_ridge(self, k: int, ridge: float = 0.0) -> float:
        """The γ that k random dimensions with projected ridge μ amount to; see `implicit_ridge`."""
        return implicit_ridge(self.eigenvalues, k, ridge)

    def projected_ridge(self, implicit: float, k: int) -> float:
        """The μ = γ(1 − df(γ)/k) with which k dimensions amount to the ridge γ; negative if k < df(γ)."""
        return implicit * (1 - self.degrees_of_freedom(implicit) / k)


def implicit_ridge(eigenvalues: Array, k: int, ridge: float = 0.0) -> float:
    """The root γ ≥ μ of μ = γ(1 − df(γ)/k), df(γ) = Σ_j s_j/(s_j + γ), for eigenvalues s_j > 0 of ΦᵀΦ.

    1 − df(γ)/k − μ/γ increases in γ, so the root is unique; it is 0 exactly when μ = 0 and k ≥ rank.
    """
    if ridge == 0 and k >= eigenvalues.size:
        return 0.0

    def excess(log_ridge: float) -> float:
        implicit = np.exp(log_ridge)
        return 1 - np.sum(eigenvalues / (eigenvalues + implicit)) / k - ridge / implicit

    low = ridge if ridge > 0 else (eigenvalues.size - k) / np.sum(1 / eigenvalues)
    high = ridge + eigenvalues.sum() / k
    low, high = (
        np.log(low) - 1e-9,
        np.log(high) + 1e-9,
    )  # a hair wider: equal eigenvalues put the root on an end
    return float(np.exp(brentq(excess, low, high, xtol=1e-14, rtol=4 * EPS)))


def spectrum(features: Array, queries: Array) -> Spectrum:
    """The Spectrum of features (n, p) and queries (q, p), through the smaller of the two Gram matrices."""
    n, p = features.shape
    if p > n:
        return spectrum_from_gram(*_inner_products(features, queries), p)
    eigenvalues, vectors = _eigh(features.T @ features)
    rotated = queries @ vectors
    seen = eigenvalues > p * EPS * eigenvalues[-1]
    outside = np.sum(rotated[:, ~seen] ** 2, axis=1)
    return Spectrum(eigenvalues[seen], features @ vectors[:, seen], rotated[:, seen], outside, p)


def spectrum_from_gram(gram: Array, cross: Array, squares: Array, p: int) -> Spectrum:
    """The same from inner products alone: K = ΦΦᵀ (n, n), cross K_x = ΦΦ*ᵀ (n, q), squares ‖φ*‖² (q,).

    Small eigenvalues carry the rounding of K, of the order n ε s_max: those below it count as zero.
    """
    eigenvalues, vectors = _eigh(gram)
    seen = eigenvalues > len(gram) * EPS * eigenvalues[-1]
    roots = np.sqrt(eigenvalues[seen])
    queries = (cross.T @ vectors[:, seen]) / roots
    outside = squares - np.einsum("qm,qm->q", queries, queries)
    return Spectrum(eigenvalues[seen], vectors[:, seen] * roots, queries, np.maximum(outside, 0.0), p)


def gram_eigenvalues(rows: Array) -> Array:
    """The eigenvalues of the smaller of rows·rowsᵀ and rowsᵀ·rows, ascending; rounding below zero is cut."""
    n, p = rows.shape
    gram = rows @ rows.T if p > n else rows.T @ rows
    return np.maximum(eigvalsh(gram, check_finite=False), 0.0)


def _inner_products(features: Array, queries: Array) -> tuple[Array, Array, Array]:
    """ΦΦᵀ, ΦΦ*ᵀ and ‖φ*‖² in double precision, over blocks of parameters: the arrays may be memory-mapped."""
    n, p = features.shape
    gram, cross, squares = np.zeros((n, n)), np.zeros((n, len(queries))), np.zeros(len(queries))
    for start in range(0, p, BLOCK):
        left = np.asarray(features[:, start : start + BLOCK], float)
        right = np.asarray(queries[:, start : start + BLOCK], float)
        gram += left @ left.T
        cross += left @ right.T
        squares += np.einsum("qp,qp->q", right, right)
    return gram, cross, squares


def _eigh(gram: Array) -> tuple[Array, Array]:
    eigenvalues, vectors = eigh(gram, driver="evd", check_finite=False)
    if not eigenvalues[-1] > 0:
        raise ValueError("all features are zero: there is no kernel")
    return eigenvalues, vectors
