"""Trajectory attribution by this project of a one-hidden-layer network in numpy, presence sign: training and sweep."""

from __future__ import annotations

from typing import Any

from numpy import ndarray as Array

from simulations.benchmarks.rivals.cases import REMOVAL, margin_query
from simulations.benchmarks.rivals.contract import serve
from simulations.studies.practice.ridge_rule import RECIPES
from simulations.workloads.digits_mlp import relu_network
from trak_theory.trajectory import attribute, train


def work(arrays: dict[str, Array], settings: dict[str, Any]) -> dict[str, Array]:
    """settings: recipe by name, estimator; arrays: start, batches (T, |B|) and data."""
    optimizer, _ = RECIPES[settings["recipe"]]
    hidden = int(arrays["hidden"])
    network = relu_network(arrays["inputs"], arrays["labels"], hidden)
    held_out = relu_network(arrays["query_inputs"], arrays["query_labels"], hidden)
    run = train(network, arrays["start"], list(arrays["batches"]), optimizer.steps)
    estimator = settings["estimator"]
    return {"scores": attribute(run, margin_query(held_out), estimator=estimator, removal=REMOVAL).influence}


if __name__ == "__main__":
    serve(work, "numpy")
