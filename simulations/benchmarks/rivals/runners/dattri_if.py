"""The conjugate-gradient influence function of dattri, presence sign of the query margins."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from numpy import ndarray as Array

from simulations.benchmarks.rivals.contract import serve
from simulations.benchmarks.rivals.runners.shared.torch_network import loaders, margins, network, torch

algorithm: Any = import_module("dattri.algorithm")
task: Any = import_module("dattri.task")


def work(arrays: dict[str, Array], settings: dict[str, Any]) -> dict[str, Array]:
    """settings: regularization, max_iter, batch (of queries)."""
    model = network(arrays)
    # All training points at once: its Hessian is that of one batch, and is inverted again for every batch.
    training, queries = loaders(arrays, len(arrays["inputs"]))[0], loaders(arrays, settings["batch"])[1]

    def loss(params: Any, data: Any) -> Any:
        inputs, labels = data
        return torch.nn.functional.cross_entropy(torch.func.functional_call(model, params, inputs), labels)

    def margin(params: Any, data: Any) -> Any:
        inputs, labels = data
        return margins(torch.func.functional_call(model, params, inputs), labels).mean()

    attributor = algorithm.IFAttributorCG(
        task=task.AttributionTask(loss_func=loss, target_func=margin, model=model, checkpoints=model.state_dict()),
        regularization=settings["regularization"],
        max_iter=settings["max_iter"],
    )
    attributor.cache(training)
    with torch.no_grad():  # otherwise every product with the Hessian is kept for a backward pass that never comes
        return {"scores": -attributor.attribute(training, queries).numpy().astype(float)}


if __name__ == "__main__":
    serve(work, "dattri", "torch")
