"""A model as the solvers see it: its outputs as a function of θ, and derivatives contracted with directions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array

from trak_theory.numerics.whitening import EPS

Pull = Callable[[Array], Array]


class Expansion(ABC):
    """Outputs f (B, n, C) at a batch of B parameters; cotangents u (B, n, C), directions v (B, p).

    vjp(u) Σ u ∇f (B, p) · jvp(v) ∇f·v (B, n, C) · quadratic(v) vᵀ∇²f v (B, n, C) · third(u, v) Σ u ∇³f[v, v] (B, p) ·
    second(u, pull) the map v ↦ Σ u ∇²f v + vjp(pull(jvp(v))) (B, p), one product with a Hessian
    """

    @property
    @abstractmethod
    def value(self) -> Array:
        """f (B, n, C)."""

    @abstractmethod
    def vjp(self, u: Array) -> Array: ...

    @abstractmethod
    def jvp(self, v: Array) -> Array: ...

    @abstractmethod
    def second(self, u: Array, pull: Pull | None = None) -> Pull: ...

    @abstractmethod
    def quadratic(self, v: Array) -> Array: ...

    @abstractmethod
    def third(self, u: Array, v: Array) -> Array: ...


class OutputMap(ABC):
    """θ ↦ outputs of n points. `shape` is (n, C, p); `work` the floats that one parameter's evaluation holds."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]: ...

    @property
    @abstractmethod
    def work(self) -> int: ...

    @abstractmethod
    def at(self, theta: Array) -> Expansion:
        """The expansion at parameters (B, p)."""

    @abstractmethod
    def jacobian(self, theta: Array) -> Array:
        """∇f (n, C, p) at one θ (p,)."""

    @abstractmethod
    def weighted_hessian(self, theta: Array, cotangent: Array) -> Array:
        """Σ_ic u_ic ∇²f_ic (p, p) at one θ (p,), cotangent u (n, C)."""

    @abstractmethod
    def rounding(self, theta: Array) -> tuple[Array, Array]:
        """What rounding does to ‖f_i‖ and to ‖∇f_i‖ at one θ (p,), both (n,)."""


@dataclass(frozen=True, eq=False)
class LinearOutputs(OutputMap):
    """f = offset + Jθ with J (n, C, p) and offset (n, C): a generalised linear model, or a network's tangent model."""

    features: Array
    offset: Array | float = 0.0

    @property
    def shape(self) -> tuple[int, int, int]:
        n, classes, p = self.features.shape
        return n, classes, p

    @property
    def work(self) -> int:
        n, classes, p = self.features.shape
        return max(n * classes, p)

    def at(self, theta: Array) -> LinearExpansion:
        return LinearExpansion(self, theta)

    def jacobian(self, theta: Array) -> Array:
        return self.features

    def weighted_hessian(self, theta: Array, cotangent: Array) -> Array:
        return np.zeros((theta.size, theta.size))

    def rounding(self, theta: Array) -> tuple[Array, Array]:
        n, classes, _ = self.features.shape
        sizes = np.sqrt(np.einsum("ncp,ncp->nc", self.features, self.features))
        terms = 4.0 * sizes * np.linalg.norm(theta) + np.broadcast_to(np.abs(self.offset), (n, classes))
        return EPS * np.linalg.norm(terms, axis=-1), np.zeros(n)


@dataclass(frozen=True, eq=False)
class LinearExpansion(Expansion):
    outputs: LinearOutputs
    theta: Array

    @property
    def value(self) -> Array:
        return self.outputs.offset + self.jvp(self.theta)

    def vjp(self, u: Array) -> Array:
        n, classes, p = self.outputs.shape
        return u.reshape(-1, n * classes) @ self.outputs.features.reshape(n * classes, p)

    def jvp(self, v: Array) -> Array:
        n, classes, p = self.outputs.shape
        return (v @ self.outputs.features.reshape(n * classes, p).T).reshape(-1, n, classes)

    def second(self, u: Array, pull: Pull | None = None) -> Pull:
        return np.zeros_like if pull is None else lambda v: self.vjp(pull(self.jvp(v)))

    def quadratic(self, v: Array) -> Array:
        n, classes, _ = self.outputs.shape
        return np.zeros((len(v), n, classes))

    def third(self, u: Array, v: Array) -> Array:
        return np.zeros_like(v)


def tangent(outputs: OutputMap, theta: Array) -> LinearOutputs:
    """The first-order expansion of `outputs` at θ (p,): f(θ) + ∇f·(· − θ)."""
    features = outputs.jacobian(theta)
    return LinearOutputs(features, outputs.at(theta[None]).value[0] - features @ theta)
