"""One-hidden-layer ReLU networks in numpy: many trainings at once, and gradients per sample in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from scipy.special import log_softmax, softmax


@dataclass(frozen=True, eq=False)
class Network:
    """logits z = relu(x W₁ + b₁) W₂ + b₂; a leading axis, where there is one, counts networks.

    first W₁ (…, inputs, hidden)   first_bias b₁ (…, 1, hidden)   second W₂ (…, hidden, C)   second_bias b₂ (…, 1, C)
    """

    first: Array
    first_bias: Array
    second: Array
    second_bias: Array

    @property
    def parts(self) -> list[Array]:
        return [getattr(self, part.name) for part in fields(self)]

    def hidden(self, inputs: Array) -> Array:
        return np.maximum(inputs @ self.first + self.first_bias, 0.0)

    def logits(self, inputs: Array) -> Array:
        """(…, N, C) for inputs (…, N, inputs)."""
        return self.hidden(inputs) @ self.second + self.second_bias

    def margins(self, inputs: Array, labels: Array) -> Array:
        """(…, N): logit of the label minus the log-sum-exp of the others, = log p/(1 − p)."""
        logits = self.logits(inputs)
        others = np.array(logits)
        np.put_along_axis(others, self._index(labels, logits), -np.inf, axis=-1)
        own = np.take_along_axis(logits, self._index(labels, logits), axis=-1)[..., 0]
        return own - np.logaddexp.reduce(others, axis=-1)

    @staticmethod
    def _index(labels: Array, logits: Array) -> Array:
        return np.broadcast_to(labels[:, None], (*logits.shape[:-1], 1))

    def gradients(self, inputs: Array, directions: Array) -> Array:
        """Gradients (N, p) of Σ_c v_ic z_c(x_i) in the parameters, for directions v (N, C); one network."""
        hidden = self.hidden(inputs)
        back = (directions @ self.second.T) * (hidden > 0)
        pieces = [inputs[:, :, None] * back[:, None, :], back, hidden[:, :, None] * directions[:, None, :], directions]
        return np.concatenate([piece.reshape(len(inputs), -1) for piece in pieces], axis=1)

    def margin_directions(self, inputs: Array, labels: Array) -> Array:
        """∂margin/∂z (N, C): 1 for the label, minus the softmax over the others for the rest."""
        logits = self.logits(inputs)
        rows = np.arange(len(labels))
        logits[rows, labels] = -np.inf
        directions = -softmax(logits, axis=1)
        directions[rows, labels] = 1.0
        return directions

    def margin_gradients(self, inputs: Array, labels: Array) -> Array:
        """(N, p) gradients of the margins: TRAK's features."""
        return self.gradients(inputs, self.margin_directions(inputs, labels))

    def jacobian(self, inputs: Array) -> Array:
        """(N, C, p) gradients of every logit."""
        classes = self.second.shape[-1]
        ones = np.eye(classes)
        return np.stack([self.gradients(inputs, np.broadcast_to(one, (len(inputs), classes))) for one in ones], axis=1)

    def probabilities(self, inputs: Array) -> Array:
        return softmax(self.logits(inputs), axis=-1)

    def astype(self, dtype: Any) -> Network:
        return Network(*(part.astype(dtype) for part in self.parts))

    def __getitem__(self, index: int) -> Network:
        return Network(*(part[index] for part in self.parts))


def initial_network(inputs: int, hidden: int, classes: int, rng: Generator) -> Network:
    """He's initialisation, without biases."""
    return Network(
        rng.standard_normal((inputs, hidden)) * np.sqrt(2 / inputs),
        np.zeros((1, hidden)),
        rng.standard_normal((hidden, classes)) * np.sqrt(2 / hidden),
        np.zeros((1, classes)),
    )


def loss_gradient(network: Network, inputs: Array, targets: Array) -> Network:
    """Gradient of the mean cross-entropy over the N axis, for inputs (…, N, ·) and one-hot targets (…, N, C)."""
    hidden = network.hidden(inputs)
    logits = hidden @ network.second + network.second_bias
    logits -= logits.max(-1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(-1, keepdims=True)
    logits -= targets
    logits /= inputs.shape[-2]
    back = logits @ np.swapaxes(network.second, -1, -2)
    back *= hidden > 0
    return Network(
        np.swapaxes(inputs, -1, -2) @ back,
        back.sum(-2, keepdims=True),
        np.swapaxes(hidden, -1, -2) @ logits,
        logits.sum(-2, keepdims=True),
    )


def cross_entropy(network: Network, inputs: Array, targets: Array) -> Array:
    return -np.mean(np.sum(targets * log_softmax(network.logits(inputs), axis=-1), axis=-1), axis=-1)


@dataclass(frozen=True)
class Optimizer:
    """Training recipe of networks: θ ← θ − η_t v, v ← m v + ∇(mean loss) + wd θ, or Adam on the same gradient.

    batch_size None: full batch; otherwise shuffled epochs. decoupled: AdamW, whose decay skips the preconditioner.
    """

    learning_rates: tuple[float, ...]
    weight_decay: float = 0.0
    momentum: float = 0.0
    batch_size: int | None = None
    adam: bool = False
    decoupled: bool = False


@dataclass(frozen=True, eq=False)
class Trained:
    """networks: one per training; second_moment: Adam's bias-corrected v at the end, None otherwise."""

    networks: Network
    second_moment: Network | None


ADAM_BETAS, ADAM_EPSILON = (0.9, 0.999), 1e-8


def train(
    start: Network,
    inputs: Array,
    labels: Array,
    subsets: Array,
    optimizer: Optimizer,
    rng: Generator,
    *,
    dtype: Any = np.float32,
) -> Trained:
    """Train one network on each subset, rows of indices (B, m), all at once from the same start."""
    one_hot = np.eye(start.second.shape[-1], dtype=dtype)[labels]
    inputs = inputs.astype(dtype)
    weights = [np.repeat(part.astype(dtype)[None], len(subsets), axis=0) for part in start.parts]
    update = _Adam(optimizer, weights) if optimizer.adam else _Momentum(optimizer, weights)
    batches = _batches(subsets, optimizer.batch_size, rng)
    for step, rate in enumerate(optimizer.learning_rates, start=1):
        batch = next(batches)
        gradient = loss_gradient(Network(*weights), inputs[batch], one_hot[batch])
        update.apply(weights, gradient.parts, rate, step)
    return Trained(Network(*weights), update.second_moment(len(optimizer.learning_rates)))


def _batches(subsets: Array, size: int | None, rng: Generator) -> Iterator[Array]:
    """(B, b) indices for step after step: the same positions of every subset, reshuffled each epoch."""
    m = subsets.shape[1]
    while True:
        if size is None:
            yield subsets
            continue
        order = rng.permutation(m)
        for start in range(0, m - size + 1, size):
            yield subsets[:, order[start : start + size]]


class _Momentum:
    def __init__(self, optimizer: Optimizer, weights: list[Array]) -> None:
        self.optimizer = optimizer
        self.velocity = [np.zeros_like(part) for part in weights]

    def apply(self, weights: list[Array], gradient: list[Array], rate: float, step: int) -> None:
        optimizer = self.optimizer
        for weight, slope, velocity in zip(weights, gradient, self.velocity, strict=True):
            velocity *= optimizer.momentum
            velocity += slope + optimizer.weight_decay * weight
            weight -= rate * velocity

    def second_moment(self, steps: int) -> None:
        return None


class _Adam:
    def __init__(self, optimizer: Optimizer, weights: list[Array]) -> None:
        self.optimizer = optimizer
        self.first = [np.zeros_like(part) for part in weights]
        self.second = [np.zeros_like(part) for part in weights]

    def apply(self, weights: list[Array], gradient: list[Array], rate: float, step: int) -> None:
        optimizer = self.optimizer
        beta, gamma = ADAM_BETAS
        for weight, slope, first, second in zip(weights, gradient, self.first, self.second, strict=True):
            decay = optimizer.weight_decay * weight
            slope = slope if optimizer.decoupled else slope + decay
            first += (1 - beta) * (slope - first)
            second += (1 - gamma) * (slope**2 - second)
            gain = rate / (np.sqrt(second / (1 - gamma**step)) + ADAM_EPSILON)
            weight -= gain * first / (1 - beta**step)
            if optimizer.decoupled:
                weight -= rate * decay

    def second_moment(self, steps: int) -> Network:
        return Network(*(part / (1 - ADAM_BETAS[1] ** steps) for part in self.second))
