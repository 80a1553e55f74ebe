"""The trained networks of the benchmark, the subsets they were retrained on, and what the runners read of them."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.studies.practice.ridge_rule import RECIPES
from simulations.workloads.digits_mlp import (
    DigitsNetwork,
    digits_network,
    everything,
    margin_gradients,
    margins,
    random_subsets,
)
from trak_theory.trajectory import MLP, Adam, Query, Run, retrain_without, train
from trak_theory.trajectory.batches import shuffled_epochs
from trak_theory.trajectory.convention import Removal

N, QUERIES, SUBSETS = 1000, 100, 100
HALF, HUNDREDTH = 0.5, 0.01  # shares removed
CNN_QUERIES, CNN_STEPS = 50, 200
REMOVAL: Removal = "renormalise"


@dataclass(frozen=True, eq=False)
class Truth:
    """Retrainings on random subsets, from the start of the network.

    fraction         of the training points in each
    subsets (B, m)   of the training points
    outputs (B, q)   query margins after training on each
    again (B, q)     the same in another batch order, where there are batches
    """

    fraction: float
    subsets: Array
    outputs: Array
    again: Array | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """A trained network as the runners read it, and the truth at each share removed.

    arrays    weights and data, for every program
    program   this project's runner for such a network, and `options`, what only that one is told
    """

    arrays: dict[str, Array]
    program: str
    options: dict[str, Any]
    truths: dict[float, Truth]


def _digits(recipe: str, folder: Path, rng: Generator) -> Case:
    """Half of the points are a training of their own; where 1 % is removed, each batch is what is left of it."""
    optimizer, _ = RECIPES[recipe]
    building, choosing, retraining, repeating, ordering, shuffling = rng.spawn(6)
    made = digits_network(optimizer, n=N, queries=QUERIES, rng=building)
    run, again = (_recorded(made, order) for order in (ordering, shuffling))
    model = replace(made, theta=run.final, second_moment=_second_moment(run))
    subsets = random_subsets(N, N // 2, SUBSETS, choosing)
    batched = optimizer.batch_size is not None
    outputs = model.retrain(subsets, retraining)
    half = Truth(0.5, subsets, outputs, model.retrain(subsets, repeating) if batched else None)
    removed = random_subsets(N, round(HUNDREDTH * N), SUBSETS, choosing)
    few = _without(run, again if batched else None, margin_query(model.held_out), removed, folder)
    arrays = {**arrays_of(model), "start": model.start, "batches": np.stack(run.batches)}
    return Case(arrays, "ours.network", {"recipe": recipe}, {HALF: half, HUNDREDTH: few})


def _recorded(model: DigitsNetwork, rng: Generator) -> Run:
    optimizer = model.optimizer
    steps = len(optimizer.learning_rates)
    batches = shuffled_epochs(N, size=optimizer.batch_size or N, steps=steps, rng=rng)
    return train(model.network, model.start, list(batches), optimizer.steps)


def _second_moment(run: Run) -> Array | None:
    """Adam's v (p,) at the end, bias-corrected."""
    adam = run.optimizer
    return run.state(run.steps)[2] / (1 - adam.betas[1] ** run.steps) if isinstance(adam, Adam) else None


def margin_query(held_out: MLP) -> Query:
    """Margins of all held-out points."""
    return Query(
        lambda theta: margins(held_out.outputs(theta, everything(held_out)), held_out.labels),
        lambda theta: margin_gradients(held_out, theta),
    )


def _without(run: Run, again: Run | None, query: Query, removed: Array, folder: Path) -> Truth:
    """The run without each row of `removed` (B, m), and another order of it."""

    def outputs(of: Run) -> Array:
        finals = retrain_without(of, removed, removal=REMOVAL, cache=folder / "retrained").final
        return np.stack([query.read(theta) for theta in finals])

    n = run.objective.n
    kept = np.stack([np.setdiff1d(np.arange(n), row) for row in removed])
    return Truth(kept.shape[1] / n, kept, outputs(run), None if again is None else outputs(again))


def _convolutional(optimizer: str, learning_rate: float, batch: int, folder: Path, rng: Generator) -> Case:
    from simulations.workloads.torch_attribution import trained
    from trak_theory.torch_bridge.settings.image import Size, mnist_cnn

    building, ordering, choosing, shuffling = rng.spawn(4)
    setting = mnist_cnn(Size(n=N, batch=batch, steps=CNN_STEPS, held_out=CNN_QUERIES), rng=building)
    start = copy.deepcopy(setting.network.state_dict())
    again = trained(setting, optimizer, learning_rate, queries=CNN_QUERIES, rng=shuffling).run
    setting.network.load_state_dict(start)
    model = trained(setting, optimizer, learning_rate, queries=CNN_QUERIES, rng=ordering)
    truths = {
        share: _without(model.run, again, model.margins, random_subsets(N, round(share * N), SUBSETS, choosing), folder)
        for share in (HALF, HUNDREDTH)
    }
    scales, ridge = model.scales(model.linearize())
    images = {"": setting.objective.rows, "query_": setting.held_out.rows}
    arrays = {
        "module": packed(setting.network),
        "scales": scales,
        **{f"{name}inputs": rows.args[0].numpy() for name, rows in images.items()},
        **{f"{name}labels": rows.targets.numpy() for name, rows in images.items()},
    }
    return Case(arrays, "ours.module", {"ridge": ridge}, truths)


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
