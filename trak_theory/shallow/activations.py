"""Activations σ with three derivatives and the suprema sup|σ′|, sup|σ″|, sup|σ‴| that the bounds need.

Every smooth activation accepts complex arguments and loses no digits there, so that complex steps can test
whatever is built on it. ReLU has derivatives almost everywhere only: σ″ = 0 there says nothing about its kink.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy import ndarray as Array
from scipy.special import erf

ROOT_TWO_PI = np.sqrt(2 * np.pi)


class Activation(ABC):
    """σ, elementwise. `derivatives(z)` is (σ, σ′, σ″, σ‴); `suprema` is (sup|σ′|, sup|σ″|, sup|σ‴|).

    `smooth` is False where the derivatives exist almost everywhere only: expansions and bounds refuse those.
    """

    name: ClassVar[str]
    suprema: ClassVar[tuple[float, float, float]]
    smooth: ClassVar[bool] = True

    @abstractmethod
    def derivatives(self, z: Array) -> tuple[Array, Array, Array, Array]: ...

    def __call__(self, z: Array) -> Array:
        return self.derivatives(z)[0]


@dataclass(frozen=True)
class Tanh(Activation):
    """σ = tanh z."""

    name: ClassVar[str] = "tanh"
    suprema: ClassVar[tuple[float, float, float]] = (1.0, 4 / (3 * np.sqrt(3)), 2.0)

    def derivatives(self, z: Array) -> tuple[Array, Array, Array, Array]:
        value = np.tanh(z)
        square = value * value
        first = 1.0 - square
        return value, first, -2.0 * value * first, (6.0 * square - 2.0) * first


@dataclass(frozen=True)
class Softplus(Activation):
    """σ = log(1 + e^z)."""

    name: ClassVar[str] = "softplus"
    suprema: ClassVar[tuple[float, float, float]] = (1.0, 0.25, 1 / (6 * np.sqrt(3)))

    def derivatives(self, z: Array) -> tuple[Array, Array, Array, Array]:
        positive = z.real > 0
        small = np.exp(np.where(positive, -z, z))  # |small| ≤ 1: no overflow on either side
        value = np.log1p(small) + np.where(positive, z, 0.0)
        first = np.where(positive, 1.0, small) / (1.0 + small)
        second = small / (1.0 + small) ** 2
        return value, first, second, second * (1.0 - 2.0 * first)


@dataclass(frozen=True)
class Erf(Activation):
    """σ = erf z = (2/√π) ∫₀^z e^{−t²} dt."""

    name: ClassVar[str] = "erf"
    suprema: ClassVar[tuple[float, float, float]] = (
        2 / np.sqrt(np.pi),
        2 * np.sqrt(2 / np.pi) * np.exp(-0.5),
        4 / np.sqrt(np.pi),
    )

    def derivatives(self, z: Array) -> tuple[Array, Array, Array, Array]:
        first = 2 / np.sqrt(np.pi) * np.exp(-z * z)
        return erf(z), first, -2.0 * z * first, (4.0 * z * z - 2.0) * first


_GELU_TURN = np.sqrt((7 - np.sqrt(33)) / 2)  # where σ‴ is extreme: z⁴ − 7z² + 4 = 0


@dataclass(frozen=True)
class Gelu(Activation):
    """σ = z Φ(z), Φ the standard normal distribution function (the exact GELU, no tanh approximation)."""

    name: ClassVar[str] = "gelu"
    suprema: ClassVar[tuple[float, float, float]] = (
        0.5 * (1 + erf(1.0)) + np.sqrt(2) * np.exp(-1.0) / ROOT_TWO_PI,
        2 / ROOT_TWO_PI,
        (4 * _GELU_TURN - _GELU_TURN**3) * np.exp(-(_GELU_TURN**2) / 2) / ROOT_TWO_PI,
    )

    def derivatives(self, z: Array) -> tuple[Array, Array, Array, Array]:
        distribution = 0.5 * (1.0 + erf(z / np.sqrt(2)))
        square = z * z
        density = np.exp(-0.5 * square) / ROOT_TWO_PI
        return (
            z * distribution,
            distribution + z * density,
            (2.0 - square) * density,
            (square - 4.0) * z * density,
        )


@dataclass(frozen=True)
class Relu(Activation):
    """σ = max(z, 0), almost everywhere: σ″ and σ‴ are 0 off the kink and have no supremum."""

    name: ClassVar[str] = "relu"
    suprema: ClassVar[tuple[float, float, float]] = (1.0, np.inf, np.inf)
    smooth: ClassVar[bool] = False

    def derivatives(self, z: Array) -> tuple[Array, Array, Array, Array]:
        active = (z.real > 0).astype(float)
        flat = np.zeros_like(active)
        return z * active, active, flat, flat


ACTIVATIONS: dict[str, type[Activation]] = {kind.name: kind for kind in (Tanh, Softplus, Erf, Gelu, Relu)}


def as_activation(activation: str | Activation) -> Activation:
    """The activation itself, or the built-in one of that name."""
    if isinstance(activation, Activation):
        return activation
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"unknown activation {activation!r}: choose one of {sorted(ACTIVATIONS)} or pass an Activation"
        )
    return ACTIVATIONS[activation]()
