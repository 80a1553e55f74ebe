"""MAGIC of bergson on mean held-out losses: the gradient of each in the weight of each sample, presence sign."""

from __future__ import annotations

import copy
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy import ndarray as Array

from simulations.benchmarks.rivals.contract import serve
from simulations.benchmarks.rivals.runners.shared.torch_network import torch
from simulations.benchmarks.rivals.runners.shared.torch_run import data, start

magic: Any = import_module("bergson.magic.trainer")
torchopt: Any = import_module("torchopt")


class Weighted(torch.nn.Module):
    """Batch in, loss out: Σ w_i ℓ_i/|B|."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Any, targets: Any, example_weight: Any) -> Any:
        losses = torch.nn.functional.cross_entropy(self.network(input_ids), targets, reduction="none")
        return (example_weight * losses).mean()


class Stream:
    """Batches for the trainer: batch t with the weights of its samples, one weight per sample whatever the epoch."""

    def __init__(self, inputs: Any, labels: Any, batches: Any) -> None:
        self.inputs, self.labels, self.batches = inputs, labels, batches
        self.weights = torch.nn.Parameter(torch.ones(len(labels)))
        self.device = torch.device("cpu")
        self.requires_grad = True

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, step: int) -> dict[str, Any]:
        batch = self.batches[step]
        return {"input_ids": self.inputs[batch], "targets": self.labels[batch], "example_weight": self.weights[batch]}


def work(arrays: dict[str, Array], settings: dict[str, Any]) -> dict[str, Array]:
    """settings: queries; lr, betas, eps, weight_decay of AdamW; arrays: the start, data and batches (T, |B|)."""
    settings = dict(settings)
    queries = settings.pop("queries")
    model = Weighted(start(arrays))
    optimizer = torchopt.adamw(**settings, eps_root=1e-17)  # eps_root: its own default
    trainer, state = magic.Trainer.initialize(model, optimizer)
    stream = Stream(*data(arrays, "inputs", "labels"), torch.from_numpy(arrays["batches"]))
    held_out = data(arrays, "query_inputs", "query_labels")
    with TemporaryDirectory() as folder:
        state = trainer.train(state, stream, save_dir=folder, inplace=False)
        state.detach_()
        parts = zip(*(part.tensor_split(queries) for part in held_out), strict=True)
        found = [_swept(trainer, folder, stream, copy.deepcopy(state), model, part) for part in parts]
    return {"influence": np.stack(found, 1)}


def _swept(trainer: Any, folder: str, stream: Stream, state: Any, model: Any, part: tuple[Any, Any]) -> Array:
    """The gradient (n,) of one query, by a sweep of its own: one loss is swept back. It overwrites the state."""
    state.requires_grad = True
    with state.activate(model) as params:
        value = model(*part, torch.ones(len(part[1])))
        slopes = torch.autograd.grad(value, list(params.values()))
    start_of_sweep = magic.BackwardState(
        dict(zip(params, slopes, strict=True)),
        [torch.zeros_like(each) for each in state.differentiable_tensors()[len(params) :]],
        torch.zeros_like(stream.weights),
    )
    swept = trainer.backward(folder, stream, start_of_sweep, state, cleanup=False)  # the next query reads them too
    return swept.weight_grads.detach().double().numpy()


if __name__ == "__main__":
    serve(work, "bergson", "torch", "torchopt")
