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
from simulations.workloads.digits_mlp import DigitsNetwork
from simulations.workloads.mlp import Network
from trak_theory import Linearization, projection_matrix

PARTS = ("first", "first_bias", "second", "second_bias")


def work(arrays: dict[str, Array], settings: dict[str, Any]) -> dict[str, Array]:
    """settings: recipe by name, and those of `scores`."""
    settings = dict(settings)
    optimizer, fraction = RECIPES[settings.pop("recipe")]
    trained = Network(*(arrays[name] for name in PARTS))
    moment = Network(*(arrays[f"moment_{name}"] for name in PARTS)) if "moment_first" in arrays else None
    model = DigitsNetwork(
        network=trained,
        start=trained,
        second_moment=moment,
        inputs=arrays["inputs"],
        labels=arrays["labels"],
        query_inputs=arrays["query_inputs"],
        query_labels=arrays["query_labels"],
        optimizer=optimizer,
    )
    return scores(Digits(model, fraction), **settings)


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
        jacobian = model.network.jacobian(model.inputs) * scales
        return jacobian, model.probabilities, model.labels, model.query_gradients * scales

    def projected(self, k: int, batch: int, rng: Generator) -> Linearization:
        """Gradients and projections in single precision."""
        model = self.model
        network = model.network.astype(np.float32)
        matrix = _projection(sum(part.size for part in network.parts), k, batch, rng)

        def rows(inputs: Array, labels: Array) -> Array:
            inputs = inputs.astype(np.float32)
            starts = range(0, len(labels), batch)
            return np.concatenate(
                [network.margin_gradients(inputs[s : s + batch], labels[s : s + batch]) @ matrix for s in starts]
            )

        own = model.probabilities[np.arange(len(model.labels)), model.labels]
        queries = rows(model.query_inputs, model.query_labels)
        return Linearization(rows(model.inputs, model.labels), own - 1.0, own * (1.0 - own), 0.0, queries)


def _projection(p: int, k: int, width: int, rng: Generator) -> Array:
    """`projection_matrix` in single precision, a few columns at a time."""
    matrix = np.empty((p, k), np.float32)
    for start in range(0, k, width):
        columns = matrix[:, start : start + width]
        columns[:] = projection_matrix(p, columns.shape[1], rng=rng) * np.sqrt(columns.shape[1] / k)
    return matrix


if __name__ == "__main__":
    serve(work, "numpy")
