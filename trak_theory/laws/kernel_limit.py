"""TRAK's kernel in the limit of many points: what k random dimensions and an explicit ridge amount to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from trak_theory.laws.design import Design


@dataclass(frozen=True)
class KernelLimit:
    """The projected kernel K = P(PᵀSP + μI)⁻¹Pᵀ, S = ΦᵀΦ: in the mean over P (p, k) it is R = (S + γI)⁻¹.

    e2              e₂ = tr ΣR (isotropic: tr R)
    implicit_ridge  γ
    square          q₂₂ = tr ΣRΣR
    noise           E tr ΣKΣK − q₂₂ for one projection; divide it by the number of projections averaged
    residual_degrees_of_freedom   k − df₂, df₂ = tr SRSR; infinite where K does not depend on P
    """

    e2: float
    implicit_ridge: float
    square: float
    noise: float
    residual_degrees_of_freedom: float


def kernel_limit(design: Design, *, k: float, projected_ridge: float) -> KernelLimit:
    """Solves e₂ = Σ s/(ζ₂s + γ), ζ₂ = nE[c²/(1 + c²e₂)], μ = γ(1 − df/k), df = e₂ζ₂. Then, with t = Σ s²/(ζ₂s + γ)²,

        q₂₂ = t/(1 − nE[c⁴/(1 + c²e₂)²] t)     y = tr ΣR² = Σ s/(ζ₂s + γ)² · q₂₂/t
        noise = γ²y²/(k − df₂)                   df₂ = df − γ nE[c²/(1 + c²e₂)²] y

    Valid for k ≤ rank Σ and k < n where μ = 0; for any k with μ > 0 (k = inf: no projection, γ = μ).
    """
    e2, gamma, df = _without_ridge(design, k) if projected_ridge == 0 else _with_ridge(design, k, projected_ridge)
    s, count, squares = design.eigenvalues, design.counts, design.scales**2
    damped = 1.0 / (1.0 + squares * e2)
    first, second, mixed = (
        design.n * float(design.scale_weights @ v)
        for v in (squares * damped, (squares * damped) ** 2, squares * damped**2)
    )
    inverse = 1.0 / (first * s + gamma)
    trace = float(count @ (s * inverse) ** 2)
    square = trace / (1.0 - second * trace)
    if gamma == 0:
        return KernelLimit(e2, gamma, square, 0.0, np.inf)
    y = float(count @ (s * inverse**2)) * square / trace
    freedom = k - df + gamma * mixed * y
    return KernelLimit(e2, gamma, square, gamma**2 * y**2 / freedom, freedom)


def unprojected_limit(design: Design, ridge: float) -> KernelLimit:
    """The kernel (S + ridge I)⁻¹ without projection; ridge 0 needs rank Σ < n."""
    if ridge == 0 and design.rank >= design.n:
        raise ValueError(f"rank {design.rank} features, n = {design.n:g} points and ridge 0: no inverse; add a ridge")
    return kernel_limit(design, k=np.inf if ridge > 0 else design.rank, projected_ridge=ridge)


def _without_ridge(design: Design, k: float) -> tuple[float, float, float]:
    """(e₂, γ, df) with df = k and Σ s/(s df + γe₂) = 1; γ = 0 where k is the rank of Σ."""
    s, count = design.eigenvalues, design.counts
    e2, trace = _e2_of(design, k, design.n - k), 0.0
    if k < design.rank:
        trace = brentq(lambda x: float((count * s / (s * k + x)).sum()) - 1.0, 0.0, float(count @ s), rtol=1e-14)
    return e2, trace / e2, k


def _with_ridge(design: Design, k: float, ridge: float) -> tuple[float, float, float]:
    """(e₂, γ, df) by the logarithm of the gap between df and its largest value: precise as μ → 0."""
    s, count, n, most = design.eigenvalues, design.counts, design.n, min(k, design.n)

    def at(log_gap: float) -> tuple[float, float, float]:
        gap = float(np.exp(log_gap))
        return _e2_of(design, most - gap, n - most + gap), ridge / (1.0 - most / k + gap / k), most - gap

    def excess(log_gap: float) -> float:
        e2, gamma, df = at(log_gap)
        return float(np.log((count * s / (s * df + gamma * e2)).sum()))

    return at(brentq(excess, -300.0, np.log(most) - 1e-15, xtol=1e-14, rtol=1e-14))


def _e2_of(design: Design, df: float, room: float) -> float:
    """e₂ with nE[c²e₂/(1 + c²e₂)] = df; `room` = n − df > 0, given apart because it may be tiny."""
    squares, masses = design.scales**2, design.scale_weights
    least, most = df / room / squares.max(), df / room / squares.min()
    if least == most:
        return float(least)

    def excess(log_e2: float) -> float:  # of log odds: precise where df or room is tiny
        remaining = 1.0 / (1.0 + squares * np.exp(log_e2))
        return log_e2 + float(np.log(masses @ (squares * remaining) / (masses @ remaining) * room / df))

    return float(np.exp(brentq(excess, np.log(least) - 1e-9, np.log(most) + 1e-9, xtol=1e-14, rtol=1e-14)))
