"""F(θ) = Σ_i w_i L(y_i, f_i(θ)) + (λ/2)‖θ − θ_c‖² for a batch of parameters, each with sample weights of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy import ndarray as Array

from trak_theory.numerics.whitening import EPS
from trak_theory.shallow.heads import Head
from trak_theory.shallow.outputs import Expansion, OutputMap, Pull

FLOATS_AT_ONCE = 2**18  # keeps one array of a batch within a core's cache
ROUNDINGS = 8.0  # relative errors of one EPS that the forward and backward pass add to a term of the gradient


@dataclass(frozen=True, eq=False)
class Objective:
    """outputs θ ↦ f (n, C), head L with its targets, ridge λ ≥ 0 (sum convention), centre θ_c (p,)."""

    outputs: OutputMap
    head: Head
    ridge: float
    centre: Array

    @property
    def batch(self) -> int:
        """Number of parameter vectors evaluated at once."""
        return max(1, FLOATS_AT_ONCE // self.outputs.work)

    def at(self, theta: Array, weights: Array) -> State:
        """θ (B, p), sample weights (B, n)."""
        return State(self, theta, weights, self.outputs.at(theta))

    def hessian(self, theta: Array, weights: Array) -> Array:
        """∇²F (p, p) at one θ (p,), weights (n,): the Gauss–Newton part plus Σ w_i r_i ∇²f_i."""
        f = self.outputs.at(theta[None]).value[0]
        residual = weights[:, None] * self.head.residual(f)
        return self.gauss_newton(theta, weights) + self.outputs.weighted_hessian(theta, residual)

    def gauss_newton(self, theta: Array, weights: Array) -> Array:
        """Σ w_i J_iᵀ(∂²L_i/∂f²)J_i + λI (p, p)."""
        _, _, p = self.outputs.shape
        jacobian = self.outputs.jacobian(theta)
        f = self.outputs.at(theta[None]).value[0]
        curvature = weights[:, None, None] * self.head.curvature(f)
        return jacobian.reshape(-1, p).T @ (curvature @ jacobian).reshape(-1, p) + self.ridge * np.eye(p)

    def gradient_rounding(self, theta: Array) -> float:
        """Rounding error of ‖∇F(θ)‖₂, an upper bound, for unit weights or fewer points."""
        return float(self.at(theta[None], np.ones((1, self.outputs.shape[0]))).gradient_rounding[0])

    def row_norms(self, theta: Array) -> Array:
        """‖J_i‖_F (n,) at θ (p,)."""
        jacobian = self.outputs.jacobian(theta)
        return np.sqrt(np.einsum("ncp,ncp->n", jacobian, jacobian))


@dataclass(frozen=True, eq=False)
class State:
    """The objective at a batch of parameters θ (B, p): value (B,), gradient (B, p), products with a direction."""

    objective: Objective
    theta: Array
    weights: Array
    expansion: Expansion

    @cached_property
    def residual(self) -> Array:
        """w r (B, n, C)."""
        return self.weights[..., None] * self.objective.head.residual(self.expansion.value)

    @cached_property
    def value(self) -> Array:
        losses = self.objective.head.value(self.expansion.value)
        moved = self.theta - self.objective.centre
        return (self.weights * losses).sum(-1) + 0.5 * self.objective.ridge * (moved * moved).sum(-1)

    @cached_property
    def gradient(self) -> Array:
        moved = self.theta - self.objective.centre
        return self.expansion.vjp(self.residual) + self.objective.ridge * moved

    @cached_property
    def gradient_rounding(self) -> Array:
        """What rounding alone can leave of ‖∇F‖₂ (B,), with outputs, curvature and Jacobian of the first θ.

        8ε(√n Σ |r_i| ‖J_i‖ + λ ‖θ − θ_c‖) + Σ |r_i| ‖δJ_i‖ + Σ w_i ‖J_i‖ ‖∂²L_i/∂f²‖ ‖δf_i‖
        """
        objective, residual = self.objective, np.linalg.norm(self.residual, axis=-1)
        of_outputs, of_jacobian = objective.outputs.rounding(self.theta[0])
        steepness = objective.row_norms(self.theta[0])
        stiffness = np.linalg.norm(objective.head.curvature(self.expansion.value[0]), 2, axis=(-2, -1))
        moved = np.linalg.norm(self.theta - objective.centre, axis=-1)
        sums = ROUNDINGS * EPS * (np.sqrt(self.weights.shape[-1]) * residual @ steepness + objective.ridge * moved)
        return sums + residual @ of_jacobian + self.weights @ (steepness * stiffness * of_outputs)

    @cached_property
    def _product(self) -> Pull:
        head, f, weights = self.objective.head, self.expansion.value, self.weights[..., None]
        return self.expansion.second(self.residual, lambda s: weights * head.curvature_times(f, s))

    def hvp(self, v: Array) -> Array:
        """∇²F v (B, p)."""
        return self._product(v) + self.objective.ridge * v

    def third(self, v: Array) -> Array:
        """∇³F[v, v] (B, p): the second derivative of the gradient along v."""
        head, e = self.objective.head, self.expansion
        f, s, weights = e.value, e.jvp(v), self.weights[..., None]
        pull = head.third_along(f, s) + head.curvature_times(f, e.quadratic(v))
        return (
            e.vjp(weights * pull) + 2.0 * e.second(weights * head.curvature_times(f, s))(v) + e.third(self.residual, v)
        )
