"""Predicted agreement of TRAK's ranking with exact leave-one-out influence, before anything is fitted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike

from trak_theory.laws.channels import Channel
from trak_theory.laws.design import Design, Scales
from trak_theory.laws.gaussian_pair import NOTHING_SHARED, ScoreLaw, Sharing
from trak_theory.laws.kernel_limit import KernelLimit, kernel_limit
from trak_theory.laws.premises import OTHER_DIMENSION, RowPremises, row_premises
from trak_theory.laws.sparse_design import check_density, sparse_scales, sparse_sharing
from trak_theory.laws.state_evolution import StateEvolution, replace_scales, state_evolution
from trak_theory.losses import Loss
from trak_theory.numerics.checks import non_negative, positive_count, real_array

Kind = Literal["gaussian", "sparse"]
FEW_DEGREES_OF_FREEDOM = 10.0
FEW_TOP_POINTS = 40
NOTABLE = 0.02  # change of Kendall that spread and kurtosis of rows must predict for a warning: see study `premises`


@dataclass(frozen=True)
class RankLaw:
    """Agreement of TRAK scores T with the exact influence I, per query.

    pearson, kendall, spearman   of I and T over the training points
    slope                        ⟨I, T⟩/⟨I, I⟩
    top_overlap                  share of the truth's top (most positive) points that TRAK's top holds
    influence                    the same for the influence function, which gives up the leverage denominator only
    warnings                     what is not to be trusted here, in words
    """

    pearson: float
    kendall: float
    spearman: float
    slope: float
    top_overlap: float | None = None
    influence: RankLaw | None = None
    warnings: tuple[str, ...] = ()


def rank_law(
    *,
    n: int,
    p: int,
    k: int,
    ridge: float,
    signal: ArrayLike,
    loss: str | Loss = "logistic",
    projected_ridge: float = 0.0,
    ensemble: int = 1,
    noise: float | None = None,
    channel: Channel | None = None,
    spectrum: ArrayLike | None = None,
    scales: Scales = None,
    top: float = 0.1,
    kind: Kind = "gaussian",
    density: float | None = None,
    rows: ArrayLike | None = None,
) -> RankLaw:
    """The agreement to expect between TRAK and exact leave-one-out influence on a random design; nothing is fitted.

    The model, its ridge λ and the design are those of `state_evolution`; k the projected dimension, `projected_ridge`
    μ, `ensemble` = J projections averaged, queries Σ^½g, `top` the share of points that top_overlap looks at. With
    e₂ and γ from `kernel_limit`, q_ab = tr ΣM_aΣM_b over M₁ = H⁻¹ and M₂ = (ΦᵀΦ + γI)⁻¹, and v = q₂₂ with the
    variance over projections,

        I = A G₁, T = A G₂/(1 + c²e₂), A = c|r|:  corr(G₁, G₂) = ρ = q₁₂/√(q₁₁v);  of equal scale
        Pearson = ρ    Kendall = (2/π) asin ρ, whatever the residuals    slope = q₁₂/(q₁₁(1 + e₂))

    kind "sparse": independent entries, non-zero with probability `density` and normal where they are; their norms and
    what they share with a query (`sparse_sharing`) lower Kendall. rows (m, p): a sample of the features, whose spread
    and kurtosis (`row_premises`) are compared with the design; a warning says what Kendall they would have.

    Exact as n, p, k → ∞ in proportion; at finite n the error is O(1/√n), and `warnings` name the cases in which it is
    large. Raises ValueError where no law applies (k ≥ min(n, p) with μ = 0), ConvergenceError where no state is found.
    Source: ours.

    >>> law = rank_law(n=400, p=100, k=50, ridge=1.0, signal=1.0, loss="squared", noise=1.0)
    >>> round(law.kendall, 2), round(law.influence.kendall, 2)
    (0.45, 1.0)
    """
    if kind == "sparse":
        if spectrum is not None or scales is not None:
            raise ValueError('kind = "sparse" has independent entries of one variance: no spectrum, no scales')
        density = check_density(n, p, density)
        scales = sparse_scales(p, density)
    elif kind != "gaussian" or density is not None:
        raise ValueError(
            f'rows of kind {kind!r} with density {density}: choose "gaussian", or "sparse" and its density'
        )
    state = state_evolution(
        n=n,
        p=p,
        ridge=ridge,
        signal=signal,
        loss=loss,
        noise=noise,
        channel=channel,
        spectrum=spectrum,
        scales=scales,
    )
    setting = partial(rank_law_of, k=k, projected_ridge=projected_ridge, ensemble=ensemble, top=top)
    law = setting(state, density=density)
    warnings = () if rows is None else _row_warnings(state, setting, law, row_premises(rows))
    return replace(law, warnings=law.warnings + warnings)


def _row_warnings(
    state: StateEvolution, setting: Callable[..., RankLaw], law: RankLaw, measured: RowPremises
) -> tuple[str, ...]:
    """What rows of that spread and kurtosis, taken as sparse, make of the law."""
    warnings, design = [], state.design
    likely = setting(replace_scales(state, measured.scales), density=min(1.0, 3 / measured.kurtosis))
    ratio = measured.dimension / design.dimension
    if not 1 / OTHER_DIMENSION < ratio < OTHER_DIMENSION:
        warnings.append(
            f"the rows have effective dimension {measured.dimension:.3g}, the spectrum says {design.dimension:.3g}: "
            "centre them, or give the eigenvalues of their covariance"
        )
    if abs(likely.kendall - law.kendall) > NOTABLE:
        warnings.append(
            f"rows of kurtosis {measured.kurtosis:.3g} and spread {measured.spread:.2g} (of squared norms) lower "
            f"Kendall to about {likely.kendall:.3f}: sparse or heavy-tailed features; use conditional_rank_law"
        )
    return tuple(warnings)


def rank_law_of(
    state: StateEvolution,
    *,
    k: int,
    projected_ridge: float = 0.0,
    ensemble: int = 1,
    top: float = 0.1,
    density: float | None = None,
) -> RankLaw:
    """The law of one (k, μ, J), from a state that many of them may share; see `rank_law`.

    density: of sparse rows, whose state has the scales of `sparse_scales`.
    """
    k, ensemble = positive_count("k", k), positive_count("ensemble", ensemble)
    ridge = float(non_negative("projected_ridge", real_array("projected_ridge", projected_ridge, 0)))
    if not 0 < top < 0.5:
        raise ValueError(f"top must lie in (0, 0.5), got {top}")
    refuse_singular(state.design, k, ridge)
    kernel = kernel_limit(state.design, k=k, projected_ridge=ridge)
    overlaps = _overlaps(state, kernel, ensemble)
    points = state.points
    size = np.abs(points.residual) * points.scale
    shared, same = _sharing(state, kernel, overlaps, density)
    law = ScoreLaw(size, 1.0 / (1.0 + points.scale**2 * kernel.e2), points.weight, overlaps.correlation, shared)
    first = ScoreLaw(size, 1.0 - points.leverage, points.weight, 1.0, same)
    return RankLaw(
        *_measures(law, overlaps.slope, top),
        influence=RankLaw(*_measures(first, 1.0, top)),
        warnings=state.warnings + _warnings(state, kernel.residual_degrees_of_freedom, top),
    )


def _sharing(
    state: StateEvolution, kernel: KernelLimit, overlaps: Overlaps, density: float | None
) -> tuple[Sharing, Sharing]:
    """Coordinates that a row shares with its query, for truth against TRAK and truth against the influence function."""
    if density is None:
        return NOTHING_SHARED, NOTHING_SHARED
    p = state.design.p
    truth = state.eta**2 / (p * overlaps.truth)
    estimate = kernel.e2**2 / (p * overlaps.estimate)
    between = state.eta * kernel.e2 / (p * overlaps.between)
    return (
        sparse_sharing(p, density, truth=truth, estimate=estimate, between=between),
        sparse_sharing(p, density, truth=truth, estimate=truth, between=truth),
    )


def _measures(law: ScoreLaw, slope: float, top: float) -> tuple[float, float, float, float, float]:
    return law.pearson, law.kendall, law.spearman, slope * law.gain, law.top_overlap(top)


def refuse_singular(design: Design, k: int, ridge: float) -> None:
    """Raise ValueError where the projected kernel does not exist."""
    n, p, rank = int(design.n), design.p, design.rank
    if k > p:
        raise ValueError(f"k = {k} exceeds p = {p}: a projection cannot add dimensions; use k ≤ p")
    if ridge == 0 and (k > rank or k >= n):
        raise ValueError(
            f"no rank law applies: k = {k}, n = {n}, rank of the features {min(n, rank)}, projected ridge μ = 0. The "
            "projected Gram matrix is singular and its inverse is rounding noise; choose a smaller k or μ > 0"
        )


def _warnings(state: StateEvolution, freedom: float, top: float) -> tuple[str, ...]:
    warnings = []
    if freedom < FEW_DEGREES_OF_FREEDOM:
        warnings.append(
            f"k − df₂ = {freedom:.3g} degrees of freedom: the scores vary wildly between projections and their mean "
            "agreement falls short of the law; choose another k or a larger projected ridge"
        )
    if top * state.design.n < FEW_TOP_POINTS:
        warnings.append(f"top_overlap looks at {top * state.design.n:.3g} points; its law needs about {FEW_TOP_POINTS}")
    return tuple(warnings)


@dataclass(frozen=True)
class Overlaps:
    """q_ab = tr ΣM_aΣM_b: truth q₁₁, between q₁₂, and estimate v = q₂₂ + noise/J."""

    truth: float
    between: float
    estimate: float

    @property
    def correlation(self) -> float:
        return min(1.0, self.between / float(np.sqrt(self.truth * self.estimate)))

    @property
    def slope(self) -> float:
        return self.between / self.truth


def _overlaps(state: StateEvolution, kernel: KernelLimit, ensemble: int) -> Overlaps:
    """q_ab = t_ab/(1 − a_ab t_ab), t_ab = Σ s²M̄_aM̄_b, a_ab = nE[the product of both damped curvatures]."""
    design, points = state.design, state.points
    s, count = design.eigenvalues, design.counts
    unit = points.scale**2 / (1.0 + points.scale**2 * kernel.e2)
    model = s / (design.n * points.mean(points.damped) * s + state.ridge)
    trak = s / (design.n * points.mean(unit) * s + kernel.implicit_ridge)

    def overlap(damped: Array, other: Array) -> float:
        trace = float(count @ (model * other))
        return trace / (1.0 - design.n * points.mean(points.damped * damped) * trace)

    return Overlaps(overlap(points.damped, model), overlap(unit, trak), kernel.square + kernel.noise / ensemble)
