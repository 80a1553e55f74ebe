"""Convex losses ℓ(y, f) of a scalar output f, with the derivatives that influence needs.

Sign: residual = ∂ℓ/∂f, curvature = ∂²ℓ/∂f² ≥ 0. Every function is finite for |f| ≤ 1e4 wherever the loss
itself is (the Poisson loss e^f overflows to inf beyond f ≈ 709, as it must).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy import ndarray as Array
from scipy.special import expit, gammaln

__all__ = ["Logistic", "Loss", "Poisson", "PseudoHuber", "Squared", "as_loss"]

Remainder = Callable[[Array], Array]


class Loss(ABC):
    """A convex loss ℓ(y, f). Subclass it to bring your own.

    `value`, `residual` (∂ℓ/∂f), `curvature` (∂²ℓ/∂f²) and `third` (∂³ℓ/∂f³) are elementwise in targets and
    outputs. `self_concordance` is M₃ = sup |ℓ‴|/ℓ″: without it (None) only the strong-convexity bound applies.
    """

    name: ClassVar[str]
    self_concordance: float | None = None

    @abstractmethod
    def value(self, targets: Array, outputs: Array) -> Array: ...

    @abstractmethod
    def residual(self, targets: Array, outputs: Array) -> Array: ...

    @abstractmethod
    def curvature(self, targets: Array, outputs: Array) -> Array: ...

    @abstractmethod
    def third(self, targets: Array, outputs: Array) -> Array: ...

    def check(self, targets: Array) -> None:  # noqa: B027 — every real target is in the domain unless said otherwise
        """Raise ValueError if some target is outside the domain of the loss."""

    def asymptotic_slopes(self, targets: Array) -> tuple[Array, Array]:
        """ℓ′(−∞) and ℓ′(+∞) for every target: where one is 0, a minimiser may fail to exist."""
        infinite = np.full(targets.shape, np.inf)
        return -infinite, infinite

    def taylor_remainder(self, targets: Array, outputs: Array, weights: Array) -> Remainder:
        """The map s ↦ w(ℓ′(f+s) − ℓ′(f) − ℓ″(f)s): what one Newton step leaves out. It may overwrite s."""
        residual = self.residual(targets, outputs)
        curvature = self.curvature(targets, outputs)

        def remainder(change: Array) -> Array:
            moved = self.residual(targets, outputs + change)
            return (weights * (moved - residual - curvature * change)).astype(change.dtype, copy=False)

        return remainder


@dataclass(frozen=True)
class Squared(Loss):
    """ℓ = (y − f)²/2.  M₃ = 0.

    >>> Squared().residual(np.array([2.0]), np.array([0.5]))
    array([-1.5])
    """

    name: ClassVar[str] = "squared"
    self_concordance: float | None = 0.0

    def value(self, targets: Array, outputs: Array) -> Array:
        return 0.5 * (targets - outputs) ** 2

    def residual(self, targets: Array, outputs: Array) -> Array:
        return outputs - targets

    def curvature(self, targets: Array, outputs: Array) -> Array:
        return np.ones(np.broadcast(targets, outputs).shape)

    def third(self, targets: Array, outputs: Array) -> Array:
        return np.zeros(np.broadcast(targets, outputs).shape)

    def taylor_remainder(self, targets: Array, outputs: Array, weights: Array) -> Remainder:
        return np.zeros_like


@dataclass(frozen=True)
class Logistic(Loss):
    """ℓ = log(1 + e^f) − y f for y ∈ {0, 1}.  M₃ = 1.

    >>> Logistic().residual(np.array([1.0]), np.array([0.0]))
    array([-0.5])
    """

    name: ClassVar[str] = "logistic"
    self_concordance: float | None = 1.0

    def check(self, targets: Array) -> None:
        _refuse(~np.isin(targets, (0.0, 1.0)), targets, "logistic targets must be 0 or 1")

    def asymptotic_slopes(self, targets: Array) -> tuple[Array, Array]:
        return -targets, 1.0 - targets

    def value(self, targets: Array, outputs: Array) -> Array:
        return np.logaddexp(0.0, outputs) - targets * outputs

    def residual(self, targets: Array, outputs: Array) -> Array:
        # σ(f) − y without cancellation for y = 1.
        return np.where(targets == 1.0, -expit(-outputs), expit(outputs) - targets)

    def curvature(self, targets: Array, outputs: Array) -> Array:
        return expit(outputs) * expit(-outputs)

    def third(self, targets: Array, outputs: Array) -> Array:
        return -self.curvature(targets, outputs) * np.tanh(outputs / 2)

    def taylor_remainder(self, targets: Array, outputs: Array, weights: Array) -> Remainder:
        # σ(f+s) − σ(f) = ±ℓ″(f) (e^{±s} − 1)/(1 + σ(∓|f|)(e^{±s} − 1)): one exponential, and with the sign that keeps
        # σ below ½ the denominator does not cancel.
        sign = np.where(outputs > 0, -1.0, 1.0)
        probability, below = expit(outputs), expit(-np.abs(outputs))
        curvature = weights * self.curvature(targets, outputs)
        signed = curvature * sign

        def remainder(change: Array) -> Array:
            if change.dtype == np.float32:
                return _single_precision(probability, curvature, change)
            change *= sign
            growth = np.expm1(change)
            denominator = below * growth
            denominator += 1
            growth /= denominator
            growth -= change
            growth *= signed
            return growth

        return remainder


def _single_precision(probability: Array, curvature: Array, change: Array) -> Array:
    """The logistic remainder as d (t/(½ + (σ − ½)t) − s), t = tanh(s/2): several times as fast, and it may cancel."""
    p, d = probability.astype(change.dtype), curvature.astype(change.dtype)
    tangent = np.tanh(change * np.float32(0.5))
    denominator = (p - np.float32(0.5)) * tangent
    denominator += np.float32(0.5)
    tangent /= denominator
    tangent -= change
    tangent *= d
    return tangent


@dataclass(frozen=True)
class Poisson(Loss):
    """ℓ = e^f − y f + log y! for counts y ≥ 0 (log link).  M₃ = 1.

    >>> Poisson().curvature(np.array([2.0]), np.array([0.0]))
    array([1.])
    """

    name: ClassVar[str] = "poisson"
    self_concordance: float | None = 1.0

    def check(self, targets: Array) -> None:
        _refuse(targets < 0, targets, "poisson targets must be counts ≥ 0")

    def asymptotic_slopes(self, targets: Array) -> tuple[Array, Array]:
        return -targets, np.full(targets.shape, np.inf)

    def value(self, targets: Array, outputs: Array) -> Array:
        return np.exp(outputs) - targets * outputs + gammaln(targets + 1.0)

    def residual(self, targets: Array, outputs: Array) -> Array:
        return np.exp(outputs) - targets

    def curvature(self, targets: Array, outputs: Array) -> Array:
        return np.exp(outputs) + 0.0 * targets

    def third(self, targets: Array, outputs: Array) -> Array:
        return self.curvature(targets, outputs)

    def taylor_remainder(self, targets: Array, outputs: Array, weights: Array) -> Remainder:
        curvature = weights * self.curvature(targets, outputs)

        def remainder(change: Array) -> Array:
            growth = np.expm1(change)
            growth -= change
            growth *= curvature.astype(change.dtype)
            return growth

        return remainder


@dataclass(frozen=True)
class PseudoHuber(Loss):
    """ℓ = δ²(√(1 + (y−f)²/δ²) − 1), the smooth Huber loss.  M₃ = 3/(2δ).

    >>> PseudoHuber(1.0).residual(np.array([0.0]), np.array([1e6])).round(3)
    array([1.])
    """

    delta: float = 1.0
    name: ClassVar[str] = "huber"

    def __post_init__(self) -> None:
        if not self.delta > 0:
            raise ValueError(f"the pseudo-Huber width δ must be positive, got {self.delta}")
        object.__setattr__(self, "self_concordance", 1.5 / self.delta)

    def asymptotic_slopes(self, targets: Array) -> tuple[Array, Array]:
        slope = np.full(targets.shape, self.delta)
        return -slope, slope

    def _stretch(self, targets: Array, outputs: Array) -> tuple[Array, Array]:
        error = outputs - targets
        return error, np.hypot(1.0, error / self.delta)

    def value(self, targets: Array, outputs: Array) -> Array:
        error, stretch = self._stretch(targets, outputs)
        return error**2 / (1.0 + stretch)  # δ²(stretch − 1) without cancellation near the target

    def residual(self, targets: Array, outputs: Array) -> Array:
        error, stretch = self._stretch(targets, outputs)
        return error / stretch

    def curvature(self, targets: Array, outputs: Array) -> Array:
        return self._stretch(targets, outputs)[1] ** -3.0

    def third(self, targets: Array, outputs: Array) -> Array:
        error, stretch = self._stretch(targets, outputs)
        return -3.0 * error / self.delta**2 * stretch**-5.0


LOSSES: dict[str, type[Loss]] = {loss.name: loss for loss in (Squared, Logistic, Poisson, PseudoHuber)}


def as_loss(loss: str | Loss) -> Loss:
    """The loss itself, or the built-in loss of that name."""
    if isinstance(loss, Loss):
        return loss
    if loss not in LOSSES:
        raise ValueError(f"unknown loss {loss!r}: choose one of {sorted(LOSSES)} or pass a Loss")
    return LOSSES[loss]()


def _refuse(bad: Array, targets: Array, rule: str) -> None:
    if np.any(bad):
        index = int(np.argmax(bad))
        raise ValueError(f"{rule}; {np.sum(bad)} of {bad.size} are not, first: targets[{index}] = {targets[index]:g}")
