"""LDS of restored influence from a few curvature directions a sample, sketched to k dimensions, and its error bars."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.studies.practice.ridge_rule import RECIPES, coordinates, preconditioned
from simulations.workloads.digits_mlp import DigitsNetwork, datamodel_scores, digits_network, random_subsets
from trak_theory import restored_block_influence, restored_influence, trak
from trak_theory.numerics.estimate import mean
from trak_theory.retraining.ridge_rule import ridge_rule
from trak_theory.trajectory import MLP

BLOCK, MARGIN, TRAK = "softmax block", "margin", "TRAK, ridge of the rule"
DIRECTIONS = (1, 2, 3)
SKETCHES: tuple[tuple[Literal["countsketch", "normal"], int], ...] = (
    ("countsketch", 1),
    ("countsketch", 2),
    ("normal", 1),
)
COVERING = 1.96
LAYERS = {"first layer alone": ("0.weight", "0.bias"), "last layer alone": ("2.weight", "2.bias")}


def directions(count: int) -> str:
    return f"{count} direction{'s' if count > 1 else ''}"


def of_layer(layer: str) -> str:
    """Two directions, from the gradients of some parameters."""
    return f"{directions(2)}, {layer}"


@dataclass(frozen=True, eq=False)
class Setting:
    """A trained network as a torch module, in the coordinates of its recipe."""

    model: DigitsNetwork
    fraction: float
    rng: Generator

    @cached_property
    def module(self) -> Any:
        return as_module(self.model.network, self.model.theta)

    def restored(
        self,
        count: int,
        k: int | None,
        kind: Literal["countsketch", "normal"] = "countsketch",
        sketches: int = 1,
        layer: str | None = None,
    ) -> Any:
        import torch

        from trak_theory.torch_bridge import restored

        def samples(network: MLP) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.from_numpy(network.features).float(), torch.from_numpy(network.labels)

        parameters, scales = self.trained(layer)
        return restored(
            self.module,
            samples(self.model.network),
            samples(self.model.held_out),
            coordinates(self.model)[1],
            fraction=self.fraction,
            k=k,
            directions=count,
            kind=kind,
            ensemble=sketches,
            parameters=parameters,
            scales=scales,
            rng=self.rng,
        )

    def trained(self, layer: str | None) -> tuple[Collection[str], Array | None]:
        """Names of the parameters of one layer, or of all, and their scales."""
        sizes = {name: value.numel() for name, value in self.module.named_parameters()}
        names = sizes if layer is None else LAYERS[layer]
        own = np.concatenate([np.full(size, name in names) for name, size in sizes.items()])
        scales = coordinates(self.model)[0]
        return names, None if isinstance(scales, float) else scales[own]

    def rows(self, widths: tuple[int, ...]) -> Iterator[tuple[dict[str, Any], Array]]:
        """What was asked, and the scores (n, q)."""
        model, (lin, recipe) = self.model, preconditioned(self.model)
        block = model.jacobian * coordinates(model)[0], model.probabilities, model.labels, lin.queries
        yield {"answer": BLOCK}, restored_block_influence(*block, recipe, fraction=self.fraction)
        yield {"answer": MARGIN}, restored_influence(lin, recipe, fraction=self.fraction)
        for k in widths:
            ridge = ridge_rule(lin, recipe, fraction=self.fraction, k=k).projected
            yield {"answer": TRAK, "k": k}, trak(lin, k=k, ridge=ridge or 0.0, rng=self.rng)
        for count in DIRECTIONS:
            whole = self.restored(count, None)
            named = {"answer": directions(count), "kept": whole.kept, "neglected": whole.neglected_dimension.value}
            yield named | {"dimension": whole.effective_dimension}, whole.scores
            for k in widths:
                for kind, sketches in SKETCHES:
                    found = self.restored(count, k, kind, sketches)
                    inside = np.abs(found.scores - whole.scores) < COVERING * found.sd
                    shape = {"k": k, "kind": kind, "sketches": sketches, "covered": float(inside.mean())}
                    yield named | shape | {"dimension": found.effective_dimension}, found.scores
        for layer in LAYERS:
            yield {"answer": of_layer(layer)}, self.restored(2, None, layer=layer).scores
            narrow = {"k": widths[0], "kind": "countsketch", "sketches": 1}
            yield {"answer": of_layer(layer)} | narrow, self.restored(2, widths[0], layer=layer).scores


def as_module(network: MLP, theta: Array) -> Any:
    """The network in torch, with its parameters in the same order."""
    import torch
    from torch import nn

    layers = network.layers(theta)
    linear = [nn.Linear(*weight.shape[::-1]) for weight, _ in layers]
    with torch.no_grad():
        for layer, (weight, bias) in zip(linear, layers, strict=True):
            layer.weight.copy_(torch.from_numpy(np.asarray(weight)))
            layer.bias.copy_(torch.from_numpy(np.asarray(bias)))
    return nn.Sequential(linear[0], nn.ReLU(), linear[1])


def run(params: Params, rng: Generator) -> Rows:
    """One network: the LDS of every answer at every k."""
    optimizer, fraction = RECIPES[str(params["recipe"])]
    n, smallest = int(params["n"]), int(params["smallest"])
    training, choosing, retraining, sketching = rng.spawn(4)
    model = digits_network(optimizer, n=n, hidden=int(params["hidden"]), queries=int(params["queries"]), rng=training)
    subsets = random_subsets(n, round(fraction * n), int(params["subsets"]), choosing)
    outputs = model.retrain(subsets, retraining)
    setting = Setting(model, fraction, sketching)
    rows: Rows = []
    for named, scores in setting.rows((smallest, 2 * smallest, 4 * smallest)):
        lds = mean(datamodel_scores(scores, subsets, outputs))
        rows.append({"p": model.network.p, "k": 0, **named, "lds": lds.value, "se": lds.se})
    return rows


THREE = ["full batch, momentum", "minibatch SGD", "AdamW"]
SMALL_CELLS = grid(recipe=THREE, n=[200], hidden=[24], queries=[40], subsets=[60], smallest=[128], replicate=range(3))

STUDY = Study(
    name="sketched_restored",
    summary="Two curvature directions a sample do nearly what the full block does, and a sketch keeps most of it.",
    run=run,
    quick=SMALL_CELLS[::6],  # the first of every second setting
    full=[
        *SMALL_CELLS,
        *grid(recipe=THREE, n=[1000], hidden=[128], queries=[100], subsets=[100], smallest=[512], replicate=range(5)),
    ],
    seconds=lambda params: 8 if params["n"] == 200 else 200,
    extra="torch",
)
