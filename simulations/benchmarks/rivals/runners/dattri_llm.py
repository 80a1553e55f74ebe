"""AdamW-influence of dattri-llm on mean held-out losses, every coordinate, presence sign."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy import ndarray as Array

from simulations.benchmarks.rivals.contract import serve
from simulations.benchmarks.rivals.runners.shared.torch_network import torch
from simulations.benchmarks.rivals.runners.shared.torch_run import data, start

package: Any = import_module("dattri_llm")
callbacks: Any = import_module("dattri_llm.gradient.callbacks")


class Named(torch.nn.Module):
    """The network with an identifier per sample as its second argument, by which dattri-llm keys its scores."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Any, samples: Any) -> Any:
        return self.network(inputs)


def work(arrays: dict[str, Array], settings: dict[str, Any]) -> dict[str, Array]:
    """settings: queries; lr, betas, eps, weight_decay of AdamW; arrays: the start, data and batches (T, |B|)."""
    settings = dict(settings)
    queries = settings.pop("queries")
    model = Named(start(arrays))
    loss = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), **settings)
    inputs, labels = data(arrays, "inputs", "labels")
    with TemporaryDirectory() as name:
        training, held_out = Path(name) / "training", Path(name) / "queries"
        states = callbacks.OptimizerStateCallback(model, optimizer)
        manager = _hooks(model, training, [states])
        with manager.collect():
            for step, batch in enumerate(torch.from_numpy(arrays["batches"])):
                optimizer.zero_grad()
                loss(model(inputs[batch], batch), labels[batch]).backward()
                optimizer.step()
                states.record_post(step)
        manager.remove()
        manager = _hooks(model, held_out, [])
        inputs, labels = data(arrays, "query_inputs", "query_labels")
        with manager.collect():
            loss(model(inputs, torch.arange(len(labels))), labels).backward()
        manager.remove()
        attributor = package.AdamWInfluenceAttributor(package.AttributionArguments(output_dir=name))
        score = attributor.attribute_from_cache(
            str(training), str(held_out), dynamics=states.dynamics(), propagation="test"
        )
        columns = score.agnostic_matrix()
    return {"influence": _by_query(columns, len(arrays["inputs"]), len(labels), queries)}


def _by_query(columns: Any, n: int, held_out: int, queries: int) -> Array:
    """(n, queries) from its samples and its matrix, a column for each held-out loss over their number."""
    samples, matrix = columns
    found = np.zeros((n, held_out))
    found[[int(sample) for sample in samples]] = matrix.numpy() * held_out
    return np.stack([part.mean(1) for part in np.array_split(found, queries, axis=1)], 1)


def _hooks(model: Any, folder: Path, more: list[Any]) -> Any:
    offload = callbacks.OffloadCallback(
        offload_interval=1, file_manager=package.GradientStorageManager(str(folder)), recording_type="per_batch"
    )
    config = package.HookManagerConfig(linear_io=package.REGISTER_ALL)
    return package.HookManager(model, config=config, callbacks=[offload, *more], sample_id_key=1)


if __name__ == "__main__":
    serve(work, "dattri-llm", "torch")
