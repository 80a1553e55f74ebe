"""TRAK scores of traker on the CPU, presence sign, at a scale of its own."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy import ndarray as Array

from simulations.benchmarks.rivals.contract import serve
from simulations.benchmarks.rivals.runners.shared.torch_network import loaders, network, torch

trak: Any = import_module("trak")
projectors: Any = import_module("trak.projectors")


def work(arrays: dict[str, Array], settings: dict[str, Any]) -> dict[str, Array]:
    """settings: k, half (precision), lambda_reg, seed, batch, block (of projected dimensions; None as released).

    Its store stays in the folder `store`, where the settings name one.
    """
    model, training, queries = network(arrays), *loaders(arrays, settings["batch"])
    checkpoint, n, q = model.state_dict(), len(arrays["inputs"]), len(arrays["query_inputs"])
    kept = settings.get("store")
    with TemporaryDirectory() if kept is None else nullcontext(kept) as folder:
        scorer = trak.TRAKer(
            model=model,
            task="image_classification",
            train_set_size=n,
            save_dir=folder,
            device="cpu",
            proj_dim=settings["k"],
            projector=_projector(model, settings),
            projector_seed=settings["seed"],
            use_half_precision=settings["half"],
            lambda_reg=settings["lambda_reg"],
            logging_level=logging.ERROR,
        )
        scorer.load_checkpoint(checkpoint, model_id=0)
        for batch in training:
            scorer.featurize(batch=batch, num_samples=len(batch[0]))
        scorer.finalize_features()
        scorer.start_scoring_checkpoint("queries", checkpoint, model_id=0, num_targets=q)
        for batch in queries:
            scorer.score(batch=batch, num_samples=len(batch[0]))
        return {"scores": np.array(scorer.finalize_scores("queries"), float)}


def _projector(model: Any, settings: dict[str, Any]) -> Any:
    """None: its own for the CPU. That one fails where a single block of 100 holds all k: it is freed too early."""
    if settings["block"] is None:
        return None
    return projectors.BasicProjector(
        grad_dim=sum(part.numel() for part in model.parameters()),
        proj_dim=settings["k"],
        seed=settings["seed"],
        proj_type=projectors.ProjectionType.normal,
        device="cpu",
        block_size=settings["block"],
        dtype=torch.float16 if settings["half"] else torch.float32,
    )


if __name__ == "__main__":
    serve(work, "traker", "torch")
