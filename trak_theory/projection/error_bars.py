"""Mean and standard error of a TRAK score over random projections: an implicit ridge, and an error bar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy import ndarray as Array

from trak_theory.linearization import Linearization
from trak_theory.numerics.checks import positive_count
from trak_theory.numerics.spectrum import spectrum
from trak_theory.projection.kernel_law import KernelLaw
from trak_theory.projection.matrices import ENTRIES_PER_ROW, Sketch

EXCESS_KURTOSIS_OF_SIGNS = -2.0
BLOCK = 1024
# Limits of the law, set on the calibration cells of study `premises`:
CROWDED = 9.0  # dimensions for each parameter of a median gradient, counted once per entry of the sketch
EMPTY = 0.3  # expected number of dimensions that no parameter falls into
FILLED = 0.5  # share of the parameters' dimension that k orthogonal columns may take


@dataclass(frozen=True, eq=False)
class ProjectionLaw:
    """Mean and standard deviation of every TRAK score over the random projection.

    mean (n, q)          −r_i φ_iᵀRφ*_j with R = (ΦᵀΦ + γI)⁻¹, presence sign
    sd (n, q)            standard deviation over draws of the projection, for the mean of `ensemble` of them
    implicit_ridge γ     the ridge that the projection amounts to
    effective_dimension  df(γ) = tr ΦᵀΦ R; equals k when μ = 0
    diagnosis            what is wrong with these scores, in words; empty when nothing is
    delocalisation       (Σφ_a²)²/Σφ_a⁴ of the median row: the parameters that its gradient spreads over
    """

    mean: Array
    sd: Array
    implicit_ridge: float
    effective_dimension: float
    diagnosis: str
    delocalisation: float

    def interval(self, z: float = 1.96) -> tuple[Array, Array]:
        """(lower, upper), each (n, q): where a score lies with the probability that a normal |Z| < z has."""
        return self.mean - z * self.sd, self.mean + z * self.sd


def projection_law(
    lin: Linearization, *, k: int, ensemble: int = 1, ridge: float = 0.0, kind: Sketch = "normal"
) -> ProjectionLaw:
    """The law of trak(lin, k=k, ensemble=J, ridge=μ, kind=kind) over its random projections.

    With S = ΦᵀΦ, R = (S + γI)⁻¹, df = tr SR, df₂ = tr SRSR, and γ the root of μ = γ(1 − df/k),

        E T_ij   ≃ −r_i φ_iᵀRφ*_j
        Var T_ij ≃ r_i² γ²/(J(k − df₂)) [(φ_iᵀR²φ_i)(φ*_jᵀR²φ*_j) + (φ_iᵀR²φ*_j)²]
                   − 2 r_i² γ²/(Jk) Σ_a (Rφ_i)_a²(Rφ*_j)_a²

    The last term belongs to signs (all kinds but `normal`). It is negligible where
    gradients spread over many parameters; where a training and a query gradient consist of one shared
    coordinate (one-hot columns, embeddings) it takes away all but df₂/k of the variance.

    Like `trak`, the law has unit curvature and no ridge of its own. Its relative error is O(1/(k − df₂)): it
    fails where k reaches the rank of Φ with μ = 0, which `diagnosis` says. Cost: an eigendecomposition of the
    smaller Gram matrix, and products (n, m) × (m, q) with m = min(n, p).
    Source: E K_P ≃ R after LeJeune et al. 2022; variances ours.

    >>> rng = np.random.default_rng(0)
    >>> rows, residual = rng.standard_normal((60, 40)), rng.standard_normal(60)
    >>> lin = Linearization(rows, residual, np.ones(60), 1.0, rows[:1])
    >>> law = projection_law(lin, k=30, ridge=5.0)
    >>> law.mean.shape, law.sd.shape
    ((60, 1), (60, 1))
    """
    p = lin.features.shape[1]
    check_setting(p, k=k, ensemble=ensemble, ridge=ridge)
    if kind not in get_args(Sketch):
        raise ValueError(f"unknown projection {kind!r}: choose one of {get_args(Sketch)}")
    law = KernelLaw(spectrum(lin.features, lin.queries), k, ensemble, ridge)
    variance, spread = law.variance, float(np.median(participation(lin.features)))
    if kind != "normal":
        correction = EXCESS_KURTOSIS_OF_SIGNS / (k * ensemble) * _shared_coordinates(lin, law)
        variance = np.maximum(variance + correction, 0.0)
    return ProjectionLaw(
        mean=-lin.residual[:, None] * law.mean,
        sd=np.abs(lin.residual)[:, None] * np.sqrt(variance),
        implicit_ridge=law.implicit_ridge,
        effective_dimension=law.effective_dimension,
        diagnosis=law.diagnosis or sketch_premise(lin.features, k, kind),
        delocalisation=spread,
    )


def participation(rows: Array) -> Array:
    """(Σφ_a²)²/Σφ_a⁴ of each row (n,), between 1 (one parameter) and p (all alike); 1 for a row of zeros."""
    squares, fourths = (np.einsum("ip,ip->i", part, part) for part in (rows, rows**2))
    return np.divide(squares**2, fourths, out=np.ones(len(rows)), where=fourths > 0)


def sketch_premise(features: Array, k: int, kind: Sketch) -> str:
    """Why the law of normal projections may fail for a sketch of that kind; often nothing."""
    p, used = features.shape[1], int(np.count_nonzero(features.any(0)))
    if kind == "srht" and k > FILLED * p:
        return f"srht: k = {k} orthogonal columns of {p} vary less than independent ones; use k ≤ {p // 2}"
    return crowding_premise(float(np.median(participation(features))), used, k, kind)


def crowding_premise(spread: float, used: int, k: int, kind: Sketch) -> str:
    """The same from the parameters that a median gradient spreads over, and those in use at all."""
    entries = min(ENTRIES_PER_ROW.get(kind, k), k)
    crowding, empty = k / (entries * spread), k * np.exp(-entries * used / k)
    if entries == k or (crowding <= CROWDED and empty <= EMPTY):
        return ""
    return (
        f"{kind} with k = {k}: a median gradient spreads over {spread:.3g} parameters, and of {used} parameters in use "
        f"none falls into {empty:.2g} of the dimensions; single scores vary up to several times more than their error "
        "bars: use a normal or rademacher projection"
    )


def check_setting(p: int, *, k: int, ensemble: int, ridge: float) -> None:
    """Raise unless p parameters can be projected to k dimensions, `ensemble` times, with that projected ridge."""
    positive_count("ensemble", ensemble)
    if positive_count("k", k) > p:
        raise ValueError(f"k = {k} exceeds p = {p}: a projection cannot add dimensions; use k ≤ p")
    if not (np.isfinite(ridge) and ridge >= 0):
        raise ValueError(f"the projected ridge must be finite and ≥ 0, got {ridge}")


def _shared_coordinates(lin: Linearization, law: KernelLaw) -> Array:
    """γ² Σ_a (Rφ_i)_a² (Rφ*_j)_a², (n, q), over blocks of parameters a."""
    space, ridge = law.space, law.implicit_ridge
    whitened = space.training / space.eigenvalues
    inside = space.queries / (space.eigenvalues + ridge)
    total = np.zeros((len(space.training), len(space.queries)))
    if ridge == 0:
        return total
    for start in range(0, space.p, BLOCK):
        block = slice(start, start + BLOCK)
        vectors = lin.features[:, block].T @ whitened
        outside = lin.queries[:, block] - space.queries @ vectors.T
        total += (law.rows @ vectors.T) ** 2 @ ((ridge * inside @ vectors.T + outside) ** 2).T
    return total
