"""AdamW-influence of dattri-llm on the mean held-out loss, every coordinate, presence sign."""

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
    """settings: lr, betas, eps, weight_decay of AdamW; arrays: the network at the start, data and batches (T, |B|)."""
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
        samples, matrix = score.agnostic_matrix()
    influence = np.zeros(len(arrays["inputs"]))
    influence[[int(sample) for sample in samples]] = matrix.sum(1).numpy()
    return {"influence": influence}


def _hooks(model: Any, folder: Path, more: list[Any]) -> Any:
    offload = callbacks.OffloadCallback(
        offload_interval=1, file_manager=package.GradientStorageManager(str(folder)), recording_type="per_batch"
    )
    config = package.HookManagerConfig(linear_io=package.REGISTER_ALL)
    return package.HookManager(model, config=config, callbacks=[offload, *more], sample_id_key=1)


if __name__ == "__main__":
    serve(work, "dattri-llm", "torch")
