"""The trained networks of the benchmark, the subsets they were retrained on, and what the runners read of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.studies.practice.ridge_rule import RECIPES
from simulations.workloads.digits_mlp import DigitsNetwork, digits_network, random_subsets

N, QUERIES, SUBSETS, FRACTION = 1000, 100, 100, 0.5
CNN_QUERIES, CNN_STEPS = 50, 200


@dataclass(frozen=True, eq=False)
class Case:
    """A trained network as the runners read it, and the truth.

    arrays          weights and data, for every program
    program         this project's runner for such a network, and `options`, what only that one is told
    subsets (B, m)  of the training points
    outputs (B, q)  query margins after training on each subset from the same start
    again (B, q)    the same in another batch order, where there are batches and it was measured
    """

    arrays: dict[str, Array]
    program: str
    options: dict[str, Any]
    subsets: Array
    outputs: Array
    again: Array | None = None


def _digits(recipe: str, folder: Path, rng: Generator) -> Case:
    optimizer, fraction = RECIPES[recipe]
    training, choosing, retraining, repeating = rng.spawn(4)
    model = digits_network(optimizer, n=N, queries=QUERIES, rng=training)
    subsets = random_subsets(N, round(fraction * N), SUBSETS, choosing)
    outputs = model.retrain(subsets, retraining)
    again = None if optimizer.batch_size is None else model.retrain(subsets, repeating)
    return Case(arrays_of(model), "ours_network", {"recipe": recipe}, subsets, outputs, again)


def _convolutional(optimizer: str, learning_rate: float, batch: int, folder: Path, rng: Generator) -> Case:
    from simulations.workloads.torch_attribution import trained
    from trak_theory.torch_bridge.settings.image import Size, mnist_cnn
    from trak_theory.trajectory import retrain_without

    building, training, choosing = rng.spawn(3)
    setting = mnist_cnn(Size(n=N, batch=batch, steps=CNN_STEPS, held_out=CNN_QUERIES), rng=building)
    model = trained(setting, optimizer, learning_rate, queries=CNN_QUERIES, rng=training)
    subsets = random_subsets(N, round(FRACTION * N), SUBSETS, choosing)
    left_out = [np.setdiff1d(np.arange(N), subset) for subset in subsets]
    finals = retrain_without(model.run, left_out, removal="renormalise", cache=folder / "retrained").final
    scales, ridge = model.scales(model.linearize())
    images = {"": setting.objective.rows, "query_": setting.held_out.rows}
    arrays = {
        "module": packed(setting.network),
        "scales": scales,
        **{f"{name}inputs": rows.args[0].numpy() for name, rows in images.items()},
        **{f"{name}labels": rows.targets.numpy() for name, rows in images.items()},
    }
    outputs = np.stack([model.margins.read(theta) for theta in finals])
    return Case(arrays, "ours_module", {"ridge": ridge, "fraction": FRACTION}, subsets, outputs)


# Fixed before any of their subsets was trained: AdamW as in the study torch_cnn, SGD as in torch_mlp.
CASES: dict[str, Callable[[Path, Generator], Case]] = {
    **{name: partial(_digits, name) for name in ("full batch, momentum", "minibatch SGD", "AdamW")},
    "CNN, AdamW": partial(_convolutional, "AdamW", 3e-3, 20),
    "CNN, SGD with momentum": partial(_convolutional, "SGD", 0.05, 50),
}


def arrays_of(model: DigitsNetwork) -> dict[str, Array]:
    """Parameters θ, data and, after Adam, the second moment of a network, as the runners read them."""
    return {
        "theta": model.theta,
        **({} if model.second_moment is None else {"second_moment": model.second_moment}),
        "hidden": np.array(model.network.widths[1]),
        "inputs": model.network.features,
        "labels": model.network.labels,
        "query_inputs": model.held_out.features,
        "query_labels": model.held_out.labels,
    }


def packed(module: Any) -> Array:
    """A torch module, made of torch's own layers, as bytes that every environment with torch reads."""
    import torch

    file = io.BytesIO()
    torch.save(module, file)
    return np.frombuffer(file.getvalue(), np.uint8)
