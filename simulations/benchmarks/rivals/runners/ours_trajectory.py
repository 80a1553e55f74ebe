"""This project's trajectory attribution of the mean held-out loss, presence sign: training run and sweep."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray as Array

from simulations.benchmarks.rivals.contract import serve
from trak_theory.trajectory import MLP, AdamW, attribute, loss_query, train


def work(arrays: dict[str, Array], settings: dict[str, Any]) -> dict[str, Array]:
    """settings: estimator; lr, betas, eps, weight_decay of AdamW; arrays: start, data and batches (T, |B|)."""
    settings = dict(settings)
    estimator, betas = settings.pop("estimator"), tuple(settings.pop("betas"))
    hidden, classes = arrays["second"].shape
    network = MLP(arrays["inputs"], arrays["labels"], hidden=(hidden,), classes=classes)
    held_out = MLP(arrays["query_inputs"], arrays["query_labels"], hidden=(hidden,), classes=classes)
    parts = (arrays["first"].T, arrays["first_bias"], arrays["second"].T, arrays["second_bias"])
    start = np.concatenate([part.ravel() for part in parts])
    run = train(network, start, list(arrays["batches"]), AdamW(**settings, betas=betas))
    query = loss_query(held_out, np.arange(held_out.n), mean=True)
    return {"influence": attribute(run, query, estimator=estimator).influence[:, 0]}


if __name__ == "__main__":
    serve(work, "numpy")
