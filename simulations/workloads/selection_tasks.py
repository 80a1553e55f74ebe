"""Data to select from: candidates of which a share is flawed or foreign, and validation, judge and test sets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.workloads.selection_setting import Setting
from simulations.workloads.training_runs import FAMILIES
from trak_theory.trajectory import MLP

Table = tuple[Array, Array]  # features (n, d), labels (n,)
Flaw = Callable[[Array, Array, Generator], Table]


def setting(name: str, rng: Generator) -> Setting:
    """A setting of SETTINGS on random splits."""
    return SETTINGS[name](rng)


def images(family: str, *, n: int, share: float, flaw: Flaw, rng: Generator) -> Setting:
    """n candidates of an image data set, a share of them flawed, and the others as they are."""
    shape = FAMILIES[family]
    features, labels = (part.copy() for part in shape.load())
    candidates, validation, judge, test = np.split(rng.permutation(len(labels)), np.cumsum([n, 200, 150]))
    flawed = np.zeros(len(labels), bool)
    flawed[candidates[: round(share * n)]] = True
    features[flawed], labels[flawed] = flaw(features[flawed], labels[flawed], rng)
    network = MLP(features, labels, hidden=shape.hidden, classes=10, activation=shape.activation)

    def accuracy(theta: Array, samples: Array) -> float:
        return float((network.outputs(theta, samples).argmax(-1) == network.labels[samples]).mean())

    return Setting(network, accuracy, network.start(rng), flawed, candidates, validation, judge, test)


def wrong_labels(features: Array, labels: Array, rng: Generator) -> Table:
    """Every label replaced by another class."""
    return features, (labels + rng.integers(1, 10, len(labels))) % 10


def turned(features: Array, labels: Array, rng: Generator) -> Table:
    """Square images turned by 90°, with their right labels: another domain, nothing wrong in it."""
    side = int(np.sqrt(features.shape[1]))
    return np.rot90(features.reshape(-1, side, side), axes=(1, 2)).reshape(features.shape), labels


def text(rng: Generator) -> Setting:
    """A small GPT-2 warmed up on prose and code alike; 70 % of the candidates are code, all other sets are prose."""
    from simulations.workloads.selection_text import prose_and_code  # needs torch

    return prose_and_code(rng)


SETTINGS: dict[str, Callable[[Generator], Setting]] = {
    "digits_wrong_labels": lambda rng: images("digits", n=1000, share=0.3, flaw=wrong_labels, rng=rng),
    "digits_domains": lambda rng: images("digits", n=1000, share=0.7, flaw=turned, rng=rng),
    "mnist_wrong_labels": lambda rng: images("mnist", n=3000, share=0.3, flaw=wrong_labels, rng=rng),
    "text_domains": text,
}
