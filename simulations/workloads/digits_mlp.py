"""A small network on the digits: its features, and the truth that retraining on subsets gives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from scipy.special import softmax
from scipy.stats import spearmanr

from simulations.workloads.data import digits
from simulations.workloads.subset_training import Optimizer, train
from trak_theory import Linearization
from trak_theory.trajectory import MLP

PAPER_RECIPE = Optimizer(learning_rates=(0.2,) * 300, weight_decay=1e-3, momentum=0.9)


@dataclass(frozen=True, eq=False)
class DigitsNetwork:
    """A trained network θ (p,), its start, and Adam's second moment (p,) or None; training and held-out points."""

    network: MLP
    held_out: MLP
    theta: Array
    start: Array
    second_moment: Array | None
    optimizer: Optimizer

    @property
    def labels(self) -> Array:
        return self.network.labels

    @cached_property
    def probabilities(self) -> Array:
        """(n, C) of the training points."""
        return softmax(self.network.outputs(self.theta, everything(self.network)), axis=-1)

    @cached_property
    def jacobian(self) -> Array:
        """(n, C, p): gradients of every logit of the training points."""
        return jacobian(self.network, self.theta)

    def margin_linearization(self, ridge: float = 0.0) -> Linearization:
        """The margin f = log p/(1 − p) of the own class, whose logistic loss is the cross-entropy."""
        own = self.probabilities[np.arange(len(self.labels)), self.labels]
        features = margin_gradients(self.network, self.theta)
        return Linearization(features, own - 1.0, own * (1.0 - own), ridge, self.query_gradients)

    @cached_property
    def query_gradients(self) -> Array:
        return margin_gradients(self.held_out, self.theta)

    @cached_property
    def block_residual(self) -> Array:
        """(n, C): gradient of the cross-entropy in the logits."""
        return self.probabilities - np.eye(self.probabilities.shape[1])[self.labels]

    def retrain(self, subsets: Array, rng: Generator) -> Array:
        """Query margins (B, q) after training on each subset (B, m) from the same start."""
        theta = train(self.network, self.start, subsets, self.optimizer, rng).theta
        return margins(self.held_out.outputs(theta, everything(self.held_out)), self.held_out.labels).astype(float)


def digits_network(
    optimizer: Optimizer = PAPER_RECIPE, *, n: int = 1000, hidden: int = 128, queries: int = 100, rng: Generator
) -> DigitsNetwork:
    """A 64-hidden-10 ReLU network trained on n digits, pixels in [0, 1]."""
    pixels, labels = digits()
    splitting, starting, training = rng.spawn(3)
    chosen, held_out = np.split(splitting.permutation(len(labels))[: n + queries], [n])
    network, others = (relu_network(pixels[part], labels[part], hidden) for part in (chosen, held_out))
    start = he_start(network, starting)
    trained = train(network, start, np.arange(n)[None], optimizer, training)
    moment = None if trained.second_moment is None else trained.second_moment[0]
    return DigitsNetwork(network, others, trained.theta[0].astype(float), start, moment, optimizer)


def relu_network(features: Array, labels: Array, hidden: int, classes: int = 10) -> MLP:
    return MLP(features, labels, hidden=(hidden,), classes=classes, activation="relu")


def he_start(network: MLP, rng: Generator) -> Array:
    """He's initialisation (p,): weights N(0, 2/fan-in), biases 0."""
    theta = np.zeros(network.p)
    for weight, _ in network.layers(theta):
        out, width = weight.shape
        weight[...] = (rng.standard_normal((width, out)) * np.sqrt(2 / width)).T
    return theta


def everything(network: MLP) -> Array:
    return np.arange(network.n)


def margins(logits: Array, labels: Array) -> Array:
    """(…, N) from logits (…, N, C): that of the label minus the log-sum-exp of the others, = log p/(1 − p)."""
    own = np.broadcast_to(labels[:, None], (*logits.shape[:-1], 1))
    others = np.array(logits)
    np.put_along_axis(others, own, -np.inf, axis=-1)
    return np.take_along_axis(logits, own, axis=-1)[..., 0] - np.logaddexp.reduce(others, axis=-1)


def margin_gradients(network: MLP, theta: Array, batch: Array | None = None) -> Array:
    """(B, p) gradients of the margins: TRAK's features. ∂margin/∂z is 1 for the label, minus the others' softmax."""
    batch = everything(network) if batch is None else batch
    logits, rows = network.outputs(theta, batch), np.arange(len(batch))
    logits[rows, network.labels[batch]] = -np.inf
    directions = -softmax(logits, axis=1)
    directions[rows, network.labels[batch]] = 1.0
    return network.output_gradients(theta, batch, directions)


def jacobian(network: MLP, theta: Array) -> Array:
    """(n, C, p) gradients of every logit."""
    ones = np.eye(network.classes, dtype=theta.dtype)
    batch = everything(network)
    rows = [network.output_gradients(theta, batch, np.broadcast_to(one, (network.n, network.classes))) for one in ones]
    return np.stack(rows, axis=1)


def random_subsets(n: int, size: int, count: int, rng: Generator) -> Array:
    """(count, size) distinct indices below n in each row."""
    return np.sort(np.argsort(rng.random((count, n)), axis=1)[:, :size], axis=1)


def datamodel_scores(attribution: Array, subsets: Array, outputs: Array) -> Array:
    """Linear datamodelling score of each query (q,): Spearman of Σ_{i∈S} T_ij with the outputs (B, q) over subsets."""
    predicted = attribution[subsets].sum(1)
    return np.array([spearmanr(p, o).statistic for p, o in zip(predicted.T, outputs.T, strict=True)])
