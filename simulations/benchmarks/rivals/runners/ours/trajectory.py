"""This project's trajectory attribution of mean held-out losses, presence sign: training run and sweep."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray as Array

from simulations.benchmarks.rivals.contract import serve
from simulations.benchmarks.rivals.trajectory import mean_losses
from trak_theory.trajectory import MLP, AdamW, attribute, train


def work(arrays: dict[str, Array], settings: dict[str, Any]) -> dict[str, Array]:
    """settings: estimator, queries; lr, betas, eps, weight_decay of AdamW; arrays: start, data and batches (T, |B|)."""
    settings = dict(settings)
    estimator, queries, betas = settings.pop("estimator"), settings.pop("queries"), tuple(settings.pop("betas"))
    hidden, classes = arrays["second"].shape
    network = MLP(arrays["inputs"], arrays["labels"], hidden=(hidden,), classes=classes)
    held_out = MLP(arrays["query_inputs"], arrays["query_labels"], hidden=(hidden,), classes=classes)
    parts = (arrays["first"].T, arrays["first_bias"], arrays["second"].T, arrays["second_bias"])
    start = np.concatenate([part.ravel() for part in parts])
    run = train(network, start, list(arrays["batches"]), AdamW(**settings, betas=betas))
    return {"influence": attribute(run, mean_losses(held_out, queries), estimator=estimator).influence}


if __name__ == "__main__":
    serve(work, "numpy")
