"""Output heads: what a model's C outputs f (…, n, C) are compared with, and the measure that a query reads.

A head knows its targets. Scalar heads wrap a `Loss`; the softmax head is the multi-class cross entropy. Both have
the same five derivatives, so that every solver and every expansion is written once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike

from trak_theory.losses import Loss, as_loss
from trak_theory.numerics.checks import real_array


class Head(ABC):
    """L(y, f) for outputs f (…, n, C), and the query measure g(y, f), a scalar for each point.

    value (…, n)                        L
    residual (…, n, C)                  ∂L/∂f
    curvature (n, C, C)                 ∂²L/∂f², for one set of outputs (n, C)
    curvature_times (…, n, C)           ∂²L/∂f² · s
    third_along (…, n, C)               ∂³L/∂f³[s, s]
    measure (…, n)                      g: f itself for one output; TRAK's margin log p_y/(1 − p_y) for softmax
    measure_gradient (…, n, C)          ∂g/∂f
    measure_along (…, n)                sᵀ ∂²g/∂f² s
    self_concordance                    M₃ with |∂³L/∂f³[s, s, s]| ≤ M₃ ‖s‖ ∂²L/∂f²[s, s]; inf where unknown
    measure_suprema                     (sup ‖∂g/∂f‖, sup ‖∂²g/∂f²‖)
    """

    targets: Array
    classes: int
    measure_suprema: tuple[float, float]

    @property
    @abstractmethod
    def self_concordance(self) -> float: ...

    @abstractmethod
    def value(self, f: Array) -> Array: ...

    @abstractmethod
    def residual(self, f: Array) -> Array: ...

    @abstractmethod
    def curvature(self, f: Array) -> Array: ...

    @abstractmethod
    def curvature_times(self, f: Array, s: Array) -> Array: ...

    @abstractmethod
    def third_along(self, f: Array, s: Array) -> Array: ...

    @abstractmethod
    def measure(self, f: Array) -> Array: ...

    @abstractmethod
    def measure_gradient(self, f: Array) -> Array: ...

    @abstractmethod
    def measure_along(self, f: Array, s: Array) -> Array: ...


@dataclass(frozen=True, eq=False)
class ScalarHead(Head):
    """One output and a convex `Loss`; the query measure is the output itself."""

    loss: Loss
    targets: Array
    classes: int = 1
    measure_suprema: tuple[float, float] = (1.0, 0.0)

    @property
    def self_concordance(self) -> float:
        return np.inf if self.loss.self_concordance is None else self.loss.self_concordance

    def value(self, f: Array) -> Array:
        return self.loss.value(self.targets, f[..., 0])

    def residual(self, f: Array) -> Array:
        return self.loss.residual(self.targets, f[..., 0])[..., None]

    def curvature(self, f: Array) -> Array:
        return self.loss.curvature(self.targets, f[..., 0])[..., None, None]

    def curvature_times(self, f: Array, s: Array) -> Array:
        return self.loss.curvature(self.targets, f[..., 0])[..., None] * s

    def third_along(self, f: Array, s: Array) -> Array:
        return self.loss.third(self.targets, f[..., 0])[..., None] * s**2

    def measure(self, f: Array) -> Array:
        return f[..., 0]

    def measure_gradient(self, f: Array) -> Array:
        return np.ones_like(f)

    def measure_along(self, f: Array, s: Array) -> Array:
        return np.zeros_like(f[..., 0])


@dataclass(frozen=True, eq=False)
class SoftmaxHead(Head):
    """L = log Σ_c e^{f_c} − f_y for labels y ∈ {0, …, C−1}; the query measure is the margin f_y − log Σ_{c≠y} e^{f_c}.

    L = log(1 + e^{−margin}) exactly. Complex-safe. M₃ = √2, as the third cumulant of s under p is at most the range of
    s, ≤ √2‖s‖, times its variance; and a variance under p is at most ½‖s‖².
    """

    targets: Array  # (n,) integers
    classes: int
    measure_suprema: tuple[float, float] = (np.sqrt(2.0), 0.5)
    self_concordance: float = np.sqrt(2.0)

    @property
    def one_hot(self) -> Array:
        return np.eye(self.classes)[self.targets]

    def value(self, f: Array) -> Array:
        return _log_sum_exp(f) - (self.one_hot * f).sum(-1)

    def residual(self, f: Array) -> Array:
        return softmax(f) - self.one_hot

    def curvature(self, f: Array) -> Array:
        p = softmax(f)
        return np.eye(self.classes) * p[..., None] - p[..., :, None] * p[..., None, :]

    def curvature_times(self, f: Array, s: Array) -> Array:
        return _covariance_times(softmax(f), s)

    def third_along(self, f: Array, s: Array) -> Array:
        return _third_cumulant(softmax(f), s)

    def measure(self, f: Array) -> Array:
        return (self.one_hot * f).sum(-1) - _log_sum_exp(self._others(f))

    def measure_gradient(self, f: Array) -> Array:
        return self.one_hot - softmax(self._others(f))

    def measure_along(self, f: Array, s: Array) -> Array:
        return -(s * _covariance_times(softmax(self._others(f)), s)).sum(-1)

    def _others(self, f: Array) -> Array:
        """The outputs with the label's own at −∞."""
        return np.where(self.one_hot == 1.0, -np.inf, f)


def softmax(f: Array) -> Array:
    shifted = np.exp(f - f.real.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def _log_sum_exp(f: Array) -> Array:
    largest = f.real.max(-1, keepdims=True)
    return np.log(np.exp(f - largest).sum(-1)) + largest[..., 0]


def _covariance_times(p: Array, s: Array) -> Array:
    """(diag p − ppᵀ) s."""
    return p * (s - (p * s).sum(-1, keepdims=True))


def _third_cumulant(p: Array, s: Array) -> Array:
    """∂³ log Σe^f [s, s] = p ∘ ((s − s̄)² − Var s), mean and variance under p."""
    square = (s - (p * s).sum(-1, keepdims=True)) ** 2
    return p * (square - (p * square).sum(-1, keepdims=True))


def head_for(loss: str | Loss, targets: ArrayLike, classes: int | None = None) -> Head:
    """The head of a loss: a name or `Loss` for one output, "softmax" for integer labels.

    `classes` defaults to the largest label + 1; every label must lie in {0, …, classes − 1}.
    """
    targets = real_array("targets", targets, 1)
    if isinstance(loss, str) and loss == "softmax":
        return SoftmaxHead(*_labels(targets, classes))
    if classes is not None:
        raise ValueError("classes belongs to the softmax loss; scalar losses have one output")
    scalar = as_loss(loss)
    scalar.check(targets)
    return ScalarHead(scalar, targets)


def head_like(head: Head, targets: ArrayLike | None) -> Head:
    """The same loss for other points: query targets. Scalar measures read no target, so None will do there."""
    if isinstance(head, SoftmaxHead):
        if targets is None:
            raise ValueError("softmax queries need labels: the margin is the margin of a class")
        return SoftmaxHead(*_labels(real_array("query targets", targets, 1), head.classes))
    assert isinstance(head, ScalarHead)
    return ScalarHead(head.loss, np.array(np.nan) if targets is None else real_array("query targets", targets, 1))


def _labels(targets: Array, classes: int | None) -> tuple[Array, int]:
    labels = targets.astype(int)
    count = int(labels.max()) + 1 if classes is None else classes
    wrong = (labels != targets) | (labels < 0) | (labels >= count)
    if wrong.any():
        index = int(np.argmax(wrong))
        raise ValueError(
            f"softmax labels must be integers 0 … {count - 1}; {wrong.sum()} of {wrong.size} are not, first: "
            f"targets[{index}] = {targets[index]:g}"
        )
    if count < 2:
        raise ValueError("softmax needs at least two classes; all labels are 0")
    return labels, count
