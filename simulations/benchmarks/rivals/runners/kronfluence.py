"""EK-FAC influence of kronfluence, presence sign of the query margins."""

from __future__ import annotations

from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any

from numpy import ndarray as Array

from simulations.benchmarks.rivals.contract import serve
from simulations.benchmarks.rivals.runners.shared.torch_network import loaders, margins, network, torch

analyzer: Any = import_module("kronfluence.analyzer")
arguments: Any = import_module("kronfluence.arguments")
task: Any = import_module("kronfluence.task")


class Classification(task.Task):
    """Cross-entropy in training; minus the margin as what is measured: lower is better for both."""

    def compute_train_loss(self, batch: Any, model: Any, sample: bool = False) -> Any:
        inputs, labels = batch
        logits = model(inputs)
        if sample:
            with torch.no_grad():
                labels = torch.multinomial(torch.softmax(logits, 1), 1)[:, 0]
        return torch.nn.functional.cross_entropy(logits, labels, reduction="sum")

    def compute_measurement(self, batch: Any, model: Any) -> Any:
        inputs, labels = batch
        return -margins(model(inputs), labels).sum()


def work(arrays: dict[str, Array], settings: dict[str, Any]) -> dict[str, Array]:
    """settings: damping (None: a tenth of the mean eigenvalue), batch."""
    torch.manual_seed(0)  # labels are sampled for the true Fisher
    training, queries = (loader.dataset for loader in loaders(arrays, settings["batch"]))
    classification = Classification()
    model = analyzer.prepare_model(network(arrays), classification)
    with TemporaryDirectory() as folder:
        work_of = analyzer.Analyzer(
            "digits", model, classification, cpu=True, disable_tqdm=True, output_dir=folder, log_level=40
        )
        work_of.fit_all_factors(
            "factors",
            training,
            per_device_batch_size=settings["batch"],
            factor_args=arguments.FactorArguments(strategy="ekfac"),
        )
        work_of.compute_pairwise_scores(
            "scores",
            "factors",
            queries,
            training,
            per_device_query_batch_size=settings["batch"],
            per_device_train_batch_size=settings["batch"],
            score_args=arguments.ScoreArguments(damping_factor=settings["damping"]),
        )
        scores = work_of.load_pairwise_scores("scores")["all_modules"]
    return {"scores": scores.numpy().astype(float).T}


if __name__ == "__main__":
    serve(work, "kronfluence", "torch")
