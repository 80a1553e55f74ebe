"""Certified neighbourhoods of a stationary point, and closed suprema of a network's derivatives over a ball.

All norms are Euclidean in θ; X = ‖(x, 1)‖, S₁, S₂, S₃ = sup|σ′|, sup|σ″|, sup|σ‴|, s the output scale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array
from scipy.linalg import solve

from trak_theory.numerics.whitening import EPS
from trak_theory.shallow.network import NetworkOutputs
from trak_theory.shallow.objective import ROUNDINGS, Objective
from trak_theory.shallow.outputs import OutputMap
from trak_theory.shallow.queries import Queries
from trak_theory.shallow.solve import lowest_curvature


@dataclass(frozen=True)
class Certificate:
    """A minimiser lies within `radius` of the point (inf: not certified), the only one nearby.

    gradient_norm ‖∇F‖₂ and smallest_eigenvalue λ_min(∇²F), each with an allowance for rounding.
    """

    gradient_norm: float
    smallest_eigenvalue: float
    radius: float


def certify(objective: Objective, theta: Array, weights: Array) -> Certificate:
    """The certificate of θ (p,) under sample weights (n,).

        ‖θ − θ*‖ ≤ t = (μ − √(μ² − 2L‖∇F‖))/L   if 2L‖∇F‖ < μ²,   μ = λ_min(∇²F(θ)),  L = sup ‖∇³F‖ on the ball

    Proof idea: along any ray of length t from θ the gradient's outward part is at least −‖∇F‖ + μt − Lt²/2. Source:
    ours, after Kantorovich. Without a smooth activation the radius is inf.
    """
    state = objective.at(theta[None], weights[None])
    gradient = float(np.linalg.norm(state.gradient)) + objective.gradient_rounding(theta)
    smallest = lowest_curvature(objective.hessian(theta, weights))[0] - _hessian_rounding(objective, theta)
    return Certificate(
        gradient, smallest, stationary_radius(gradient, smallest, third_bound(objective, theta, weights))
    )


def _hessian_rounding(objective: Objective, theta: Array) -> float:
    """Of the sum Σ ∂²L_i/∂f² J_i² + r_i ∇²f_i, relative to the sizes of its terms."""
    f = objective.outputs.at(theta[None]).value[0]
    stiffness = np.linalg.norm(objective.head.curvature(f), 2, axis=(-2, -1))
    residual = np.linalg.norm(objective.head.residual(f), axis=-1)
    sup_second, _ = derivative_bounds(objective.outputs, theta, 0.0)
    return float(ROUNDINGS * EPS * (stiffness @ objective.row_norms(theta) ** 2 + residual @ sup_second))


def stationary_radius(gradient_norm: float, smallest: float, third: Callable[[float], float]) -> float:
    """Distance to the minimiser; `third(ρ)` bounds ‖∇³F‖ on the ball of radius ρ. inf where the premise fails."""
    if not smallest > 0:
        return np.inf
    radius = 2.0 * gradient_norm / smallest  # the premise puts the minimiser inside this ball
    if not 2.0 * third(radius) * gradient_norm < smallest**2:
        return np.inf
    for _ in range(2):  # a smaller ball has a smaller third derivative
        curvature_loss = 2.0 * third(radius) * gradient_norm / smallest**2
        radius = 2.0 * gradient_norm / (smallest * (1.0 + np.sqrt(1.0 - curvature_loss)))
    return radius


def third_bound(objective: Objective, theta: Array, weights: Array) -> Callable[[float], float]:
    """ρ ↦ sup ‖∇³F‖ over ‖θ′ − θ‖ ≤ ρ:  Σ w_i (ℓ‴ G³ + 3 ℓ″ G K + |r| T), with the suprema of f's derivatives."""
    f = objective.outputs.at(theta[None]).value[0]
    slope = operator_norms(objective.outputs.jacobian(theta))
    residual = np.linalg.norm(objective.head.residual(f), axis=-1)
    curvature = np.linalg.norm(objective.head.curvature(f), 2, axis=(-2, -1))
    concordance = objective.head.self_concordance

    def supremum(radius: float) -> float:
        sup_second, sup_third = derivative_bounds(objective.outputs, theta, radius)
        steepest = slope + sup_second * radius
        moved = steepest * radius
        with np.errstate(over="ignore", invalid="ignore"):
            stiffest = curvature * np.exp(concordance * moved)
            largest = residual + stiffest * moved
            terms = stiffest * steepest * (concordance * steepest**2 + 3.0 * sup_second) + largest * sup_third
        used = weights > 0
        return float(np.sum(weights[used] * np.nan_to_num(terms[used], nan=np.inf, posinf=np.inf)))

    return supremum


def operator_norms(jacobian: Array) -> Array:
    """‖J_i‖₂ (n,) of Jacobians (n, C, p)."""
    return np.sqrt(np.linalg.eigvalsh(jacobian @ jacobian.swapaxes(-1, -2))[:, -1].clip(0.0))


def derivative_bounds(outputs: OutputMap, theta: Array, radius: float) -> tuple[Array, Array]:
    """sup ‖∇²f_i‖ and sup ‖∇³f_i‖ (n,) over the ball, operator norms over unit combinations of the C outputs.

    ∇²f is block diagonal over hidden units; with a = ‖A_j‖ + ρ the block of unit j acts as at most
    [[a S₂X², S₁X], [S₁X, 0]] on (‖V_j direction‖, ‖A_j direction‖), and the cubic form is at most
    a S₃X³ + (2/√3) S₂X². A linear model has neither.
    """
    if not isinstance(outputs, NetworkOutputs):
        return np.zeros(outputs.shape[0]), np.zeros(outputs.shape[0])
    net = outputs.network
    first, second, third = net.activation.suprema
    largest = float(np.linalg.norm(net.split(theta)[1], axis=0).max()) + radius
    size = np.linalg.norm(outputs.rows, axis=1)
    diagonal = largest * second * size**2
    sup_second = 0.5 * (diagonal + np.hypot(diagonal, 2.0 * first * size))
    sup_third = largest * third * size**3 + 2.0 / np.sqrt(3.0) * second * size**2
    return net.scale * sup_second, net.scale * sup_third


def measure_bounds(queries: Queries, theta: Array, radius: float) -> tuple[Array, Array]:
    """sup ‖∇g_j‖ and sup ‖∇²g_j‖ (q,) over the ball, for the queries' measure g."""
    sup_second, _ = derivative_bounds(queries.outputs, theta, radius)
    steepest = operator_norms(queries.outputs.jacobian(theta)) + sup_second * radius
    gradient, hessian = queries.head.measure_suprema
    own = np.linalg.norm(queries.gradient(theta), axis=-1)
    with np.errstate(over="ignore", invalid="ignore"):
        curvature = np.nan_to_num(gradient * sup_second + hessian * steepest**2, nan=np.inf, posinf=np.inf)
    return own + curvature * radius, curvature


def query_error(
    objective: Objective, queries: Queries, theta: Array, weights: Array, certificate: Certificate
) -> Array:
    """|g(θ) − g(θ*)| at most (q,), θ* the minimiser that the certificate of θ (p,) puts within t; inf without one.

    The smaller of sup‖∇g‖ t and ‖H⁻¹∇g‖ (‖∇F‖ + ½Lt²) + ½ sup‖∇²g‖ t², since H(θ − θ*) = ∇F up to ½Lt².
    """
    distance = certificate.radius
    if not np.isfinite(distance):
        return np.full(queries.count, np.inf)
    steepest, curvature = measure_bounds(queries, theta, distance)
    hessian = objective.hessian(theta, weights)
    doubt = _hessian_rounding(objective, theta) + len(theta) * EPS * float(np.linalg.norm(hessian, 2))
    left = certificate.gradient_norm + 0.5 * third_bound(objective, theta, weights)(distance) * distance**2
    pulled = np.linalg.norm(solve(hessian, queries.gradient(theta).T, assume_a="pos", check_finite=False), axis=0)
    along = pulled * (1.0 + doubt / certificate.smallest_eigenvalue) * left + 0.5 * curvature * distance**2
    return np.minimum(steepest * distance, along)


def remainder_bound(queries: Queries, theta: Array, distance: float) -> Array:
    """|g(θ + Δ) − g(θ) − ∇g·Δ| ≤ ½ sup‖∇²g‖ ‖Δ‖² (q,) for every ‖Δ‖ ≤ distance; inf without a certified distance."""
    if not np.isfinite(distance):
        return np.full(queries.count, np.inf)
    return 0.5 * measure_bounds(queries, theta, distance)[1] * distance**2
