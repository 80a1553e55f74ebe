"""This project's scores of a one-hidden-layer network in numpy, presence sign: TRAK, and restored influence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.benchmarks.rivals.contract import serve
from simulations.benchmarks.rivals.runners.shared.scoring import Block, Training, scores
from simulations.studies.practice.ridge_rule import RECIPES, coordinates, preconditioned
from simulations.workloads.digits_mlp import DigitsNetwork, margin_gradients, relu_network
from trak_theory import Linearization, projection_matrix
from trak_theory.trajectory import MLP


def work(arrays: dict[str, Array], settings: dict[str, Any]) -> dict[str, Array]:
    """settings: recipe by name, the truth's fraction, those of `scores`; arrays: `subsets` asks for outputs."""
    settings = dict(settings)
    (optimizer, _), fraction = RECIPES[settings.pop("recipe")], settings.pop("fraction")
    hidden, theta = int(arrays["hidden"]), arrays["theta"]
    network = relu_network(arrays["inputs"], arrays["labels"], hidden)
    held_out = relu_network(arrays["query_inputs"], arrays["query_labels"], hidden)
    model = DigitsNetwork(network, held_out, theta, theta, arrays.get("second_moment"), optimizer)
    return scores(Digits(model, fraction), subsets=arrays.get("subsets"), **settings)


@dataclass(frozen=True, eq=False)
class Digits:
    """A network of the digits as `scores` reads it."""

    model: DigitsNetwork
    fraction: float

    def training(self) -> Training:
        return Training(coordinates(self.model)[1], self.fraction)

    def margins(self) -> Linearization:
        return preconditioned(self.model)[0]

    def block(self) -> Block:
        model, scales = self.model, coordinates(self.model)[0]
        return model.jacobian * scales, model.probabilities, model.labels, model.query_gradients * scales

    def projected(self, k: int, batch: int, rng: Generator) -> Linearization:
        """Gradients and projections in single precision."""
        model = self.model
        theta = model.theta.astype(np.float32)
        matrix = _projection(theta.size, k, batch, rng)

        def rows(network: MLP) -> Array:
            batches = np.split(np.arange(network.n), range(batch, network.n, batch))
            return np.concatenate([margin_gradients(network, theta, part) @ matrix for part in batches])

        own = model.probabilities[np.arange(len(model.labels)), model.labels]
        return Linearization(rows(model.network), own - 1.0, own * (1.0 - own), 0.0, rows(model.held_out))


def _projection(p: int, k: int, width: int, rng: Generator) -> Array:
    """`projection_matrix` in single precision, a few columns at a time."""
    matrix = np.empty((p, k), np.float32)
    for start in range(0, k, width):
        columns = matrix[:, start : start + width]
        columns[:] = projection_matrix(p, columns.shape[1], rng=rng) * np.sqrt(columns.shape[1] / k)
    return matrix


if __name__ == "__main__":
    serve(work, "numpy")
