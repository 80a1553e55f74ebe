"""Predicted agreement of TRAK's ranking with a reference, for a fitted model of any design, before any projection."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike
from scipy.linalg import eigh
from scipy.special import erf

from trak_theory.attribution import newton
from trak_theory.laws.rank_law import RankLaw
from trak_theory.linearization import Linearization
from trak_theory.numerics.checks import real_array
from trak_theory.numerics.estimate import Estimate, mean
from trak_theory.numerics.spectrum import spectrum
from trak_theory.projection.error_bars import check_setting, sketch_premise
from trak_theory.projection.kernel_law import KernelLaw
from trak_theory.projection.matrices import Sketch

TRIPLES = 20_000
BLOCK = 1_000
# Reciprocal powers of the root of x⁴ = x + 1: a sequence of even spread in three dimensions (Roberts 2018).
STRIDES = 1.2207440846057596 ** -np.arange(1.0, 4.0)


def conditional_rank_law(
    lin: Linearization,
    *,
    k: int,
    ensemble: int = 1,
    ridge: float = 0.0,
    query_covariance: ArrayLike | None = None,
    kind: Sketch = "normal",
) -> RankLaw:
    """The agreement to expect between newton(lin) and trak(lin, k=k, ensemble=J, ridge=μ), given lin.

    query_covariance None     means over the queries of lin, each by its own law (real features: use this one)
    query_covariance (p, p)   Gaussian queries with this second moment Σ; lin.queries are not used

    With a_i = −r_i/(1 − h_i), R = (S + γI)⁻¹, c = γ²/(k − df₂) and sd the standard deviation over projections,

        per query    Pearson = ⟨I_c, m_c⟩/√(|I_c|² E|T_c|²),  m_ij = −r_i φ_iᵀRφ*_j,  _c centred over points
                     Kendall = mean over pairs of 2Φ(sgn(I_i − I_i′)(m_i − m_i′)/sd_ii′) − 1
        Σ            Pearson = Σ_j ⟨I_c, m_c⟩/√(Σ_j |I_c|² Σ_j E|T_c|²) over j in the columns of Σ^½
                     Kendall = mean over pairs of (2/π) asin corr(I_i − I_i′, T_i − T_i′)

    and Spearman from triples, with its term of order 1/n; slope = ⟨I, m⟩/⟨I, I⟩. `kendall` and `spearman` carry the
    sampling error (`.se`) of their 20,000 evenly spread triples, as if drawn at random: no random numbers are used.
    The points are given, so that no premise is made of them: sparse and heavy-tailed designs are covered. Kinds of
    projection other than normal have premises of their own, see `projection_law`; `warnings` say where they fail.
    Raises ValueError where no law applies (k > rank, μ = 0). Source: ours.
    """
    check_setting(lin.features.shape[1], k=k, ensemble=ensemble, ridge=ridge)
    if query_covariance is not None:
        lin = replace(lin, queries=_root(query_covariance, lin.features.shape[1]))
    law = KernelLaw(spectrum(lin.features, lin.queries), k, ensemble, ridge)
    found = rank_law_against(newton(lin), lin.residual, law, gaussian=query_covariance is not None)
    diagnosis = law.diagnosis or sketch_premise(lin.features, k, kind)
    return replace(found, warnings=(diagnosis,) if diagnosis else ())


def rank_law_against(reference: Array, residual: Array, law: KernelLaw, *, gaussian: bool = False) -> RankLaw:
    """The agreement to expect between a reference (n, q) and −r_i times a random kernel, over its projections.

    gaussian: the q columns are a square root of the second moment of random queries, not queries themselves.
    Points with a NaN in the reference are left out.
    """
    if law.singular:
        raise ValueError(f"no rank law applies: {law.diagnosis}")
    usable = np.isfinite(reference).all(1)
    if usable.sum() < 3:
        raise ValueError(f"ranks need at least 3 points with a finite reference, got {usable.sum()}")
    return rank_law_of_scores(reference[usable], RandomScores(residual[usable], law, usable), gaussian=gaussian)


def rank_law_of_scores(reference: Array, scores: RandomScores, *, gaussian: bool = False) -> RankLaw:
    """`rank_law_against` for scores that several references share; no NaN."""
    product, energies = _centred(reference, scores)
    aligned, length = np.sum(reference * scores.mean, 0), np.sum(reference**2, 0)
    if gaussian:
        pearson, slope = product.sum() / np.sqrt(np.prod(energies.sum(1))), aligned.sum() / length.sum()
    else:
        pearson, slope = np.mean(product / np.sqrt(np.prod(energies, 0))), np.mean(aligned / length)
    kendall, spearman = _rank_correlations(reference, scores, gaussian)
    return RankLaw(pearson=float(pearson), kendall=kendall, spearman=spearman, slope=float(slope))


@dataclass(frozen=True, eq=False)
class RandomScores:
    """T_ij = −r_i φ_iᵀK_Pφ*_j over the projection P: mean, and variance of sums and differences."""

    residual: Array
    law: KernelLaw
    usable: Array

    @cached_property
    def mean(self) -> Array:
        return -self.residual[:, None] * self.law.mean[self.usable]

    @cached_property
    def square(self) -> Array:
        """−r_i φ_iᵀR²φ*_j (n, q)."""
        return -self.residual[:, None] * self.law.square[self.usable]

    @cached_property
    def rows(self) -> Array:
        """−r_i Rφ_i (n, m)."""
        return -self.residual[:, None] * self.law.rows[self.usable]

    def variance(self, length: Array, square: Array) -> Array:
        """Var of Σ_i v_i T_ij from |Σ v_i r_i Rφ_i|² (…,) and Σ v_i r_i φ_iᵀR²φ*_j (…, q)."""
        return length[..., None] * self.law.noisy_query_square + self.law.noise * square**2

    def differences(self, first: Array, second: Array) -> tuple[Array, Array]:
        """Mean and variance of T_ij − T_i′j for the points i `first` and i′ `second` (b,), each (b, q)."""
        length = np.empty(first.size)
        for start in range(0, first.size, BLOCK):
            block = slice(start, start + BLOCK)
            rows = self.rows[first[block]] - self.rows[second[block]]
            length[block] = np.einsum("bm,bm->b", rows, rows)
        mean, square = self.mean[first] - self.mean[second], self.square[first] - self.square[second]
        return mean, self.variance(length, square)

    @cached_property
    def triples(self) -> Array:
        return spread_triples(len(self.residual))

    @cached_property
    def orders(self) -> tuple[Array, Array]:
        """E sgn(T_i − T_i′) over projections for (first, second) and (first, third) of the triples, each (b, q)."""
        first, second, third = self.triples
        return _expected_sign(*self.differences(first, second)), _expected_sign(*self.differences(first, third))


def _expected_sign(mean: Array, variance: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        z = mean / np.sqrt(2 * variance)
    return np.where(np.isnan(z), 0.0, erf(z))


def _centred(reference: Array, scores: RandomScores) -> tuple[Array, Array]:
    """Per query, centred over points: ⟨I, m⟩ (q,), and |I|² and E|T|² as (2, q)."""
    centred, mean, square, rows = (a - a.mean(0) for a in (reference, scores.mean, scores.square, scores.rows))
    noise = scores.variance(np.einsum("im,im->i", rows, rows), square).sum(0)
    return np.sum(centred * mean, 0), np.array([np.sum(centred**2, 0), np.sum(mean**2, 0) + noise])


def _rank_correlations(reference: Array, scores: RandomScores, gaussian: bool) -> tuple[Estimate, Estimate]:
    """Kendall and Spearman from triples of points (i, j, l): E sgn(I_i − I_j) sgn(T_i − T_j), and the same with T_l.

    Spearman = 3 (E₂ + (n − 2) E₃)/(n + 1), exact for a random choice of three distinct points.
    """
    n = len(reference)
    first, second, third = scores.triples
    gap = reference[first] - reference[second]
    if gaussian:
        two, three = (_arcsine(gap, *scores.differences(first, other)) for other in (second, third))
    else:
        two, three = (np.mean(np.sign(gap) * order, axis=1) for order in scores.orders)
    untied = np.mean(gap.any(1) if gaussian else gap != 0)  # Kendall's τ_b: ties, as of zero rows, are in both scores
    return mean(two / max(untied, 1.0 / n)), mean(3 * (two + (n - 2) * three) / (n + 1))


def _arcsine(gap: Array, mean: Array, variance: Array) -> Array:
    """(2/π) asin of the correlation of two differences over Gaussian queries and projections; arrays (pairs, q)."""
    lengths = np.sum(gap**2, 1) * np.sum(mean**2 + variance, 1)
    correlation = np.sum(gap * mean, 1) / np.sqrt(np.where(lengths > 0, lengths, 1.0))
    return 2 / np.pi * np.arcsin(np.clip(correlation, -1.0, 1.0))


def spread_triples(n: int) -> Array:
    """Distinct points (3, b), b ≲ 20,000, spread evenly over all triples."""
    points = (np.arange(1, TRIPLES + 1)[:, None] * STRIDES % 1.0 * n).astype(int).T
    distinct = (points[0] != points[1]) & (points[0] != points[2]) & (points[1] != points[2])
    return points[:, distinct]


def _root(covariance: ArrayLike, p: int) -> Array:
    """F (m, p) with FᵀF = Σ."""
    covariance = real_array("query_covariance", covariance, 2)
    if covariance.shape != (p, p):
        raise ValueError(f"query_covariance has shape {covariance.shape}, the features have p = {p}")
    if not np.allclose(covariance, covariance.T, rtol=1e-8, atol=1e-12 * np.abs(covariance).max()):
        raise ValueError("query_covariance is not symmetric")
    eigenvalues, vectors = eigh(covariance)
    if not eigenvalues[-1] > 0 or eigenvalues[0] < -1e-8 * eigenvalues[-1]:
        raise ValueError(
            f"query_covariance must be positive semi-definite, its eigenvalues span [{eigenvalues[0]:.3g}, "
            f"{eigenvalues[-1]:.3g}]"
        )
    seen = eigenvalues > 1e-14 * eigenvalues[-1]
    return (vectors[:, seen] * np.sqrt(eigenvalues[seen])).T
