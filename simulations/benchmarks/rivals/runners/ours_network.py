"""This project's scores of a network, presence sign: TRAK, and restored influence."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.benchmarks.rivals.contract import serve
from simulations.digits_mlp import DigitsNetwork
from simulations.mlp import Network
from simulations.ridge_rule import RECIPES, coordinates, preconditioned
from trak_theory import Linearization, influence, projection_matrix, trak
from trak_theory.attribution import trak_kernel
from trak_theory.restored import restored_block_influence, restored_influence
from trak_theory.ridge_rule import ridge_rule

PARTS = ("first", "first_bias", "second", "second_bias")


def work(arrays: dict[str, Array], settings: dict[str, Any]) -> dict[str, Array]:
    """settings: method (trak, trak at the rule, restored, block); recipe by name; for trak k, seed and batch."""
    optimizer, fraction = RECIPES[settings["recipe"]]
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
    if settings["method"] == "trak":
        return {"scores": _trak(model, **{name: settings[name] for name in ("k", "seed", "batch")})}
    lin, recipe = preconditioned(model)
    if settings["method"] == "block":
        jacobian = trained.jacobian(model.inputs) * coordinates(model)[0]
        block = (jacobian, model.probabilities, model.labels, lin.queries)
        return {"scores": restored_block_influence(*block, recipe, fraction=fraction)}
    if settings["method"] == "restored":
        return {"scores": restored_influence(lin, recipe, fraction=fraction)}
    ridge = ridge_rule(lin, recipe, fraction=fraction, k=settings["k"]).projected or 0.0
    return {"scores": trak(lin, k=settings["k"], ridge=ridge, rng=np.random.default_rng(settings["seed"]))}


def _trak(model: DigitsNetwork, *, k: int, seed: int, batch: int) -> Array:
    """One normal projection to k dimensions, μ = 0: gradients and projections in single precision, in batches."""
    network = model.network.astype(np.float32)
    matrix = _projection(sum(part.size for part in network.parts), k, batch, np.random.default_rng(seed))

    def projected(inputs: Array, labels: Array) -> Array:
        inputs = inputs.astype(np.float32)
        starts = range(0, len(labels), batch)
        return np.concatenate(
            [network.margin_gradients(inputs[s : s + batch], labels[s : s + batch]) @ matrix for s in starts]
        )

    own = model.probabilities[np.arange(len(model.labels)), model.labels]
    rows, queries = projected(model.inputs, model.labels), projected(model.query_inputs, model.query_labels)
    return influence(trak_kernel(Linearization(rows, own - 1.0, own * (1.0 - own), 0.0, queries)))


def _projection(p: int, k: int, width: int, rng: Generator) -> Array:
    """`projection_matrix` in single precision, a few columns at a time."""
    matrix = np.empty((p, k), np.float32)
    for start in range(0, k, width):
        columns = matrix[:, start : start + width]
        columns[:] = projection_matrix(p, columns.shape[1], rng=rng) * np.sqrt(columns.shape[1] / k)
    return matrix


if __name__ == "__main__":
    serve(work, "numpy")
