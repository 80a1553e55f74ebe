"""Label channels y | s, and quadrature over everything a training point brings: its signal, its output, its label.

Signal s ~ N(0, κ²); leave-one-out output z = α s + σ ξ with ξ ~ N(0, 1) independent of s. The fitted point depends on
(y, z) only, so s is integrated out: given z it is N(αz κ²/(α²κ² + σ²), κ²σ²/(α²κ² + σ²)).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from scipy.linalg import eigh_tridiagonal
from scipy.special import expit, gammaln

from trak_theory.laws.proximal import proximal
from trak_theory.losses import Logistic, Loss, Poisson, PseudoHuber, Squared
from trak_theory.numerics.quadrature import normal_rule

NEGLIGIBLE = 1e-20


@dataclass(frozen=True, eq=False)
class Points:
    """Quadrature over (y, z): label, output, weight with Σ weight = 1, and signal = weight × E[s | y, z], all (m,)."""

    label: Array
    output: Array
    weight: Array
    signal: Array


class Channel(ABC):
    """Distribution of a label y given the signal s. Subclass it, or use `Labels`, to bring your own."""

    @abstractmethod
    def points(self, kappa: float, alpha: float, sigma: float, count: int) -> Points:
        """Quadrature with about `count` nodes for each Gaussian dimension."""

    @abstractmethod
    def sample(self, signal: Array, rng: Generator) -> Array:
        """Labels drawn given the signals."""


def conditional_signal(kappa: float, alpha: float, sigma: float, count: int) -> tuple[Array, Array, Array, float]:
    """Outputs z (m,) with weights (m,), and the mean (m,) and standard deviation of s given z."""
    nodes, weights = normal_rule(count)
    spread = np.hypot(alpha * kappa, sigma)
    return spread * nodes, weights, alpha * kappa**2 / spread * nodes, kappa * sigma / spread


@dataclass(frozen=True)
class Labels(Channel):
    """Finitely many labels y_l with probability(y, s); or a density on a grid, its weights multiplied in.

    `probability` takes labels and signals that broadcast, and must sum to one over the labels (checked).
    """

    labels: tuple[float, ...]
    probability: Callable[[Array, Array], Array]

    def points(self, kappa: float, alpha: float, sigma: float, count: int) -> Points:
        outputs, weights, mean, deviation = conditional_signal(kappa, alpha, sigma, count)
        narrower = min(1.0, deviation / float(np.hypot(alpha * kappa, sigma)))
        inner, inner_weights = normal_rule(max(40, int(count * narrower / 2)))
        signals = mean[:, None] + deviation * inner
        table = [self.probability(np.asarray(y), signals) for y in self.labels]
        mass = np.array([p @ inner_weights for p in table])
        moment = np.array([(p * signals) @ inner_weights for p in table])
        total = float((mass * weights).sum())
        if abs(total - 1.0) > 1e-8:
            raise ValueError(
                f"the label probabilities sum to {total:.10g}, not 1, for signals of standard deviation {kappa:g}: "
                "normalise them, or refine and widen the grid of labels"
            )
        label, output = np.repeat(self.labels, outputs.size), np.tile(outputs, len(self.labels))
        return Points(label, output, (mass * weights).ravel(), (moment * weights).ravel())

    def sample(self, signal: Array, rng: Generator) -> Array:
        edges = np.cumsum([self.probability(np.asarray(y), signal) for y in self.labels], axis=0)
        drawn = (rng.random(signal.shape) * edges[-1] >= edges).sum(0)
        return np.array(self.labels)[drawn]


@dataclass(frozen=True)
class Bernoulli(Labels):
    """Logistic labels: P(y = 1 | s) = 1/(1 + e^{−s}).

    (y, s, z) and (1 − y, −s, −z) have one law, and everything that the equations take is even under the change: the
    points with y = 1 stand for both.
    """

    labels: tuple[float, ...] = (0.0, 1.0)
    probability: Callable[[Array, Array], Array] = field(default=lambda y, s: expit((2 * y - 1) * s))

    def points(self, kappa: float, alpha: float, sigma: float, count: int) -> Points:
        ones = Labels((1.0,), lambda y, s: 2 * expit(s))
        return ones.points(kappa, alpha, sigma, count)


@dataclass(frozen=True)
class Additive(Channel):
    """y = s + noise · ε with ε ~ N(0, 1), for losses of y − f alone: the pair (0, z − y) stands for (y, z)."""

    noise: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.noise) and self.noise >= 0):
            raise ValueError(f"the label noise must be a finite standard deviation ≥ 0, got {self.noise}")

    def points(self, kappa: float, alpha: float, sigma: float, count: int) -> Points:
        nodes, weights = normal_rule(count)
        spread = float(np.hypot(np.hypot((1.0 - alpha) * kappa, sigma), self.noise))
        slope = (alpha - 1.0) * kappa**2 / spread if spread > 0 else 0.0
        return Points(np.zeros(count), spread * nodes, weights, weights * slope * nodes)

    def sample(self, signal: Array, rng: Generator) -> Array:
        return signal + self.noise * rng.standard_normal(signal.shape)


@dataclass(frozen=True)
class Counts(Channel):
    """y ~ Poisson(e^s).

    Small counts one by one, larger ones by Gauss rules on blocks of growing length; the integral over s given
    (y, z) by the trapezoidal rule about its mode, which is a proximal point of the Poisson loss itself.
    """

    def points(self, kappa: float, alpha: float, sigma: float, count: int) -> Points:
        return _count_points(kappa, alpha, sigma, count)

    def sample(self, signal: Array, rng: Generator) -> Array:
        return rng.poisson(np.exp(signal)).astype(float)


@lru_cache(maxsize=8)  # difference quotients in η ask for the same points again
def _count_points(kappa: float, alpha: float, sigma: float, count: int) -> Points:
    outputs, weights, mean, deviation = conditional_signal(kappa, alpha, sigma, count)
    reach = normal_rule(count)[0][-1]
    labels, label_weights = _count_rule(np.exp(min(reach * kappa, 40.0)), 4 + min(count // 20, 20))
    distance = np.abs(np.log(labels + 0.5)[:, None] - mean)
    near = distance <= 8.5 * np.sqrt(deviation**2 + 1.0 / (labels[:, None] + 0.5))
    relevant = (near | ((labels[:, None] < 16) & (mean < 0))) & (weights > NEGLIGIBLE)
    row, column = np.nonzero(relevant)
    y, center = labels[row], mean[column]
    mass, moment = _poisson_mixture(y, center, deviation, count)
    weight = label_weights[row] * weights[column]
    kept = weight * mass > NEGLIGIBLE
    return Points(y[kept], outputs[column][kept], (weight * mass)[kept], (weight * moment)[kept])


def _poisson_mixture(y: Array, mean: Array, deviation: float, count: int) -> tuple[Array, Array]:
    """∫ P(y | s) N(s; mean, deviation²) ds and the same with a factor s."""
    variance = max(deviation**2, 1e-300)
    mode = proximal(Poisson(), y, mean, variance).output
    width = (np.exp(mode) + 1.0 / variance) ** -0.5
    nodes = np.linspace(
        -11.0, 11.0, 15 + min(int(max(1.0, deviation) * count / 3), 75)
    )  # the left tail is as wide as s
    # log P N at s = mode + width t is a quadratic in t minus e^mode e^(width t): one product for the quadratic.
    gap = mode - mean
    constant = y * mode - gammaln(y + 1.0) - gap**2 / (2 * variance) - 0.5 * np.log(2 * np.pi * variance)
    quadratic = np.stack([constant, (y - gap / variance) * width, -(width**2) / (2 * variance)], axis=1)
    log_density = quadratic @ nodes ** np.arange(3)[:, None]
    log_density -= np.exp(np.stack([mode, width], axis=1) @ np.stack([np.ones(nodes.size), nodes]))
    sums = np.exp(log_density, out=log_density) @ np.stack([np.ones(nodes.size), nodes], axis=1)
    mass, moment = sums.T * width * (nodes[1] - nodes[0])
    return mass, mode * mass + width * moment


@lru_cache(maxsize=32)
def _count_rule(largest: float, per_block: int) -> tuple[Array, Array]:
    """Labels and weights for Σ_{y=0}^{largest}: every count below 16, then a Gauss rule on each block [a, 1.4 a)."""
    labels, weights = [np.arange(16.0)], [np.ones(16)]
    start = 16.0
    while start < largest + 8 * np.sqrt(largest):
        length = np.ceil(0.4 * start)
        nodes, node_weights = _integer_rule(length, int(min(per_block, length)))
        labels.append(start + nodes)
        weights.append(node_weights)
        start += length
    return np.concatenate(labels), np.concatenate(weights)


def _integer_rule(length: float, count: int) -> tuple[Array, Array]:
    """The Gauss rule of Σ_{y=0}^{length−1}, from the recurrence of the discrete Chebyshev polynomials."""
    degree = np.arange(1.0, count)
    off = 0.5 * degree * np.sqrt((length**2 - degree**2) / (4 * degree**2 - 1))
    nodes, vectors = eigh_tridiagonal(np.full(count, 0.5 * (length - 1)), off)
    return nodes, length * vectors[0] ** 2


def channel_of(loss: Loss, noise: float | None) -> Channel:
    """The channel that a loss is the log-likelihood of; `noise` (default 1) belongs to squared and huber alone."""
    if isinstance(loss, (Squared, PseudoHuber)):
        return Additive(1.0 if noise is None else float(noise))
    if noise is not None:
        raise ValueError(f"noise = {noise} has no meaning for the {loss.name} loss: leave it out")
    if isinstance(loss, Logistic):
        return Bernoulli()
    if isinstance(loss, Poisson):
        return Counts()
    raise ValueError(f"no label channel is known for the {loss.name} loss: pass channel=… (a Channel)")
