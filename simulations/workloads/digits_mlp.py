"""A small network on the digits: its features, and the truth that retraining on subsets gives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from scipy.stats import spearmanr

from simulations.workloads.mlp import Network, Optimizer, initial_network, train
from trak_theory import Linearization

PAPER_RECIPE = Optimizer(learning_rates=(0.2,) * 300, weight_decay=1e-3, momentum=0.9)


@dataclass(frozen=True, eq=False)
class DigitsNetwork:
    """A trained 64-hidden-10 network with its training points and held-out queries (pixels in [0, 1])."""

    network: Network
    start: Network
    second_moment: Network | None
    inputs: Array
    labels: Array
    query_inputs: Array
    query_labels: Array
    optimizer: Optimizer

    @cached_property
    def probabilities(self) -> Array:
        return self.network.probabilities(self.inputs)

    def margin_linearization(self, ridge: float = 0.0) -> Linearization:
        """The margin f = log p/(1 − p) of the own class, whose logistic loss is the cross-entropy."""
        own = self.probabilities[np.arange(len(self.labels)), self.labels]
        return Linearization(
            self.network.margin_gradients(self.inputs, self.labels),
            own - 1.0,
            own * (1.0 - own),
            ridge,
            self.query_gradients,
        )

    @cached_property
    def query_gradients(self) -> Array:
        return self.network.margin_gradients(self.query_inputs, self.query_labels)

    @cached_property
    def block_residual(self) -> Array:
        """(n, C): gradient of the cross-entropy in the logits."""
        return self.probabilities - np.eye(self.probabilities.shape[1])[self.labels]

    def retrain(self, subsets: Array, rng: Generator) -> Array:
        """Query margins (B, q) after training on each subset (B, m) from the same start."""
        networks = train(self.start, self.inputs, self.labels, subsets, self.optimizer, rng).networks
        return networks.margins(self.query_inputs.astype(np.float32), self.query_labels).astype(float)


def digits_network(
    optimizer: Optimizer = PAPER_RECIPE, *, n: int = 1000, hidden: int = 128, queries: int = 100, rng: Generator
) -> DigitsNetwork:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    splitting, starting, training = rng.spawn(3)
    order = splitting.permutation(len(labels))
    chosen, held_out = order[:n], order[n : n + queries]
    pixels = pixels / 16.0
    start = initial_network(pixels.shape[1], hidden, 10, starting)
    trained = train(start, pixels[chosen], labels[chosen], np.arange(n)[None], optimizer, training)
    return DigitsNetwork(
        trained.networks[0].astype(float),
        start,
        None if trained.second_moment is None else trained.second_moment[0],
        pixels[chosen],
        labels[chosen],
        pixels[held_out],
        labels[held_out],
        optimizer,
    )


def random_subsets(n: int, size: int, count: int, rng: Generator) -> Array:
    """(count, size) distinct indices below n in each row."""
    return np.sort(np.argsort(rng.random((count, n)), axis=1)[:, :size], axis=1)


def datamodel_scores(attribution: Array, subsets: Array, outputs: Array) -> Array:
    """Linear datamodelling score of each query (q,): Spearman of Σ_{i∈S} T_ij with the outputs (B, q) over subsets."""
    predicted = attribution[subsets].sum(1)
    return np.array([spearmanr(p, o).statistic for p, o in zip(predicted.T, outputs.T, strict=True)])
