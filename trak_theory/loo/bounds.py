"""Certified bounds: finite sample, no asymptotics. A premise that fails gives an infinite radius, never a number."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike
from scipy.special import exprel, hyp1f1

PREMISE_MARGIN = 1e-9
LARGEST_EXPONENT = 500.0


def newton_certificate(
    decrement: ArrayLike, dual_norm: ArrayLike, curvature_ratio: ArrayLike, self_concordance: float
) -> Array:
    """Distance to the minimiser from the length of the Newton step that is left.

    F is the objective, β any point, M = ∇²F at a reference point; decrement g = ‖∇F(β)‖_{M⁻¹},
    dual_norm B ≥ max_j ‖φ_j‖_{M⁻¹}, curvature_ratio c ≥ 1 with ∇²F(β) ⪰ M/c, M₃ = sup |ℓ‴|/ℓ″. If M₃ c g B < 1,
    then a minimiser β̂ exists and

        t = ‖β − β̂‖_M ≤ −log(1 − M₃ c g B)/(M₃ B)      (M₃ = 0: t ≤ c g),

    so that every linear output φ*ᵀβ is known to within ‖φ*‖_{M⁻¹} t. Otherwise inf.

    Proof: let ‖v‖_M = 1 and D(t) = vᵀ∇F(β + tv). No output moves by more than Bt, and |ℓ‴| ≤ M₃ℓ″ keeps each ℓ″
    above e^{−M₃Bt} of its value at β, so D′(t) ≥ e^{−M₃Bt}/c and D(t) ≥ −g + (1 − e^{−M₃Bt})/(M₃Bc). Beyond the
    stated t that is positive for every v: F rises outwards, so it has a minimiser, and only inside. Equality: a
    Poisson loss without ridge in one dimension, β above β̂. Source: ours, after self-concordance (Bach 2010).
    """
    decrement, dual_norm, curvature_ratio = np.broadcast_arrays(decrement, dual_norm, curvature_ratio)
    if self_concordance == 0:
        return curvature_ratio * decrement
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        premise = self_concordance * curvature_ratio * decrement * dual_norm
        length = np.where(
            dual_norm > 0, -np.log1p(-premise) / (self_concordance * dual_norm), curvature_ratio * decrement
        )
    return np.where(premise < 1 - PREMISE_MARGIN, length, np.inf)


def chord_radius(radius: ArrayLike, change: ArrayLike, dual_norm: ArrayLike, self_concordance: float) -> Array:
    """Distance to the minimiser after one chord step β⁺ = β − M⁻¹∇F(β) from a point within `radius` of it.

        ‖β⁺ − β̂‖_M ≤ (e^{M₃s} (e^x − 1)/x − 1) t,     x = M₃ B t,  t = radius ≥ ‖β − β̂‖_M,  M = ∇²F(θ̂),

    with change s ≥ max_j |log(ℓ″_j(β)/ℓ″_j(θ̂))|/M₃, for instance max_j |φ_jᵀ(β − θ̂)|.

    Proof: β⁺ − β̂ = M⁻¹(M − ∫₀¹∇²F(β + τ(β̂ − β))dτ)(β − β̂), each ℓ″ at τ is within e^{±M₃(s + τBt)} of its
    value at θ̂, and e^y − 1 ≥ 1 − e^{−y}; integrate over τ. Source: ours.
    """
    radius = np.asarray(radius, float)
    with np.errstate(over="ignore", invalid="ignore"):
        growth = np.log(exprel(self_concordance * np.asarray(dual_norm) * radius))
        factor = np.expm1(self_concordance * np.asarray(change) + growth)
        return np.where(np.isfinite(radius), factor * radius, np.inf)


def strong_convexity_radius(gradient_norm: ArrayLike, smallest_ridge: float) -> Array:
    """‖β − β̂‖₂ ≤ ‖∇F(β)‖₂ / min_j λ_j for any convex loss; inf with an unpenalised coefficient.

    Proof: (β − β̂)ᵀ(∇F(β) − ∇F(β̂)) ≥ λ‖β − β̂‖². Equality: squared loss of a zero row. Source: standard.
    """
    gradient_norm = np.asarray(gradient_norm, float)
    if smallest_ridge <= 0:
        return np.full(gradient_norm.shape, np.inf)
    return gradient_norm / smallest_ridge


def newton_decrement_bound(
    residual: Array, leverage: Array, square_lengths: Array, self_concordance: float
) -> tuple[Array, Array]:
    """A priori: how much gradient the Newton point of leave-one-out leaves, before anything is evaluated there.

    residual r, leverage h, square_lengths q_i = φ_iᵀH⁻¹φ_i, all (n,). For the Newton point
    β_i = θ̂ + r_i H⁻¹φ_i/(1 − h_i), the largest change of another output and the decrement are at most

        s_i = |r_i| √(q_i max_{j≠i} q_j)/(1 − h_i),     ‖∇F_{−i}(β_i)‖_{M⁻¹} ≤ |r_i| √(q_i/(1 − h_i)) ψ(M₃s_i),

    ψ(x) = (e^x − 1 − x)/x and M = H_{−i}(θ̂). Returns (decrement, s); with `newton_certificate` and curvature ratio
    e^{M₃s} they certify Newton's influence from leverages alone. Leverage 1: inf.

    Proof: ∇F_{−i}(β_i) = Σ_{j≠i} ρ_jφ_j, where |ρ_j| ≤ d_j|s_j|ψ(M₃|s_j|) by integrating |ℓ‴| ≤ M₃ℓ″ twice, and
    ‖Σ d_j|s_j|φ_j‖_{M⁻¹} ≤ (Σ d_js_j²)^½ ≤ ‖β_i − θ̂‖_M. Source: ours.
    """
    remaining = 1 - leverage
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        change = np.abs(residual) * np.sqrt(square_lengths * largest_of_others(square_lengths)) / remaining
        exponent = self_concordance * change
        length = np.abs(residual) * np.sqrt(square_lengths / remaining)
    # (e^x − 1 − x)/x without cancellation
    growth = exponent / 2 * hyp1f1(1, 3, np.fmin(exponent, LARGEST_EXPONENT))
    vacuous = (remaining <= 0) | (exponent > LARGEST_EXPONENT)
    return np.where(vacuous, np.inf, length * growth), np.where(vacuous, np.inf, change)


def linearisation_radius(curvature: ArrayLike, distance: ArrayLike) -> Array:
    """|f(θ̂ + Δ) − f(θ̂) − ∇f(θ̂)ᵀΔ| ≤ ½ K ‖Δ‖², curvature K ≥ ‖∇²f‖₂ on the ball of radius `distance` ≥ ‖Δ‖.

    inf where either is infinite (ReLU, or an uncertified distance), 0 for distance 0. Proof: Taylor with the
    integral remainder. Equality: a quadratic f along its leading eigenvector. Source: standard.
    """
    curvature, distance = np.broadcast_arrays(np.asarray(curvature, float), np.asarray(distance, float))
    with np.errstate(invalid="ignore"):
        return np.where(distance == 0, 0.0, 0.5 * curvature * distance**2)


def two_layer_curvature(
    inputs: Array, output_weights: Array, *, sup_first: float, sup_second: float, distance: ArrayLike = 0.0
) -> Array:
    """sup ‖∇²f(x)‖₂ over the ball of radius `distance` around the weights of f(x) = aᵀσ(Wx + b) + c, (n,).

        ‖∇²f(x)‖₂ ≤ (u + √(u² + 4v²))/2,   u = (max_h |a_h| + distance) σ₂ ‖x̃‖²,   v = σ₁ ‖x̃‖,   x̃ = (x, 1)

    inputs (n, d); output_weights a (hidden,); sup_first σ₁ = sup|σ′|, sup_second σ₂ = sup|σ″| (tanh: 1 and
    4/(3√3); ReLU has σ₂ = inf, and so has the result). Parameters (a, W, b, c) in the Euclidean norm.

    Proof: ∇²f is block diagonal over hidden units; on (a_h, (w_h, b_h) along x̃) unit h's block is
    [[0, σ′‖x̃‖], [σ′‖x̃‖, a_hσ″‖x̃‖²]], it vanishes elsewhere, and its norm grows with |σ′|, |σ″| and |a_h|.
    Source: ours.
    """
    if not np.isfinite(sup_second):
        return np.full(len(inputs), np.inf)
    length = np.sqrt(1 + np.einsum("id,id->i", inputs, inputs))
    u = (np.abs(output_weights).max() + np.asarray(distance)) * sup_second * length**2
    v = sup_first * length
    return (u + np.hypot(u, 2 * v)) / 2


def largest_of_others(values: Array) -> Array:
    """max_{j≠i} values_j for every i."""
    last, second = np.argmax(values), np.partition(values, -2)[-2]
    return np.where(np.arange(values.size) == last, second, values[last])
