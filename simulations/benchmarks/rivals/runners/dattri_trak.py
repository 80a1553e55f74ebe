"""TRAK scores of dattri on the CPU, presence sign."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from numpy import ndarray as Array

from simulations.benchmarks.rivals.contract import serve
from simulations.benchmarks.rivals.runners.shared.torch_network import loaders, margins, network, torch

algorithm: Any = import_module("dattri.algorithm")
task: Any = import_module("dattri.task")


def work(arrays: dict[str, Array], settings: dict[str, Any]) -> dict[str, Array]:
    """settings: k, regularization, seed, batch."""
    model, training, queries = network(arrays), *loaders(arrays, settings["batch"])

    def margin(params: Any, data: Any) -> Any:
        inputs, label = data
        return margins(torch.func.functional_call(model, params, inputs[None]), label[None])[0]

    def probability(params: Any, data: Any) -> Any:
        return torch.sigmoid(margin(params, data))

    scorer = algorithm.TRAKAttributor(
        task=task.AttributionTask(loss_func=margin, model=model, checkpoints=model.state_dict()),
        correct_probability_func=probability,
        projector_kwargs={"proj_dim": settings["k"], "proj_seed": settings["seed"]},
        regularization=settings["regularization"],
    )
    with torch.no_grad():
        scorer.cache(training)
        return {"scores": scorer.attribute(queries).numpy().astype(float)}


if __name__ == "__main__":
    serve(work, "dattri", "torch")
