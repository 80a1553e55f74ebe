"""Restored influence of this project from curvature directions, for any module in torch, presence sign."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy import ndarray as Array
from numpy.random import default_rng

from simulations.benchmarks.rivals.contract import serve
from simulations.benchmarks.rivals.runners.shared.torch_network import network
from simulations.studies.practice.ridge_rule import RECIPES, coordinates
from simulations.workloads.digits_mlp import DigitsNetwork, relu_network
from trak_theory.retraining.ridge_rule import TrainingRecipe
from trak_theory.torch_bridge import restored, restored_by_cg


def work(arrays: dict[str, Array], settings: dict[str, Any]) -> dict[str, Array]:
    """settings: those of the network, `cg`, and k, directions, ensemble or steps as in the library."""
    own = dict(settings)
    scales, recipe, fraction = _coordinates(arrays, own)
    solve: Any = restored_by_cg if own.pop("cg") else restored
    samples = [
        (torch.from_numpy(arrays[f"{name}inputs"]).float(), torch.from_numpy(arrays[f"{name}labels"]).long())
        for name in ("", "query_")
    ]
    known = {"scales": scales, "fraction": fraction, "rng": default_rng(0)}
    return {"scores": solve(network(arrays), *samples, recipe, **known, **own).scores}


def _coordinates(
    arrays: dict[str, Array], settings: dict[str, Any]
) -> tuple[Array | None, TrainingRecipe | float, float]:
    """Scales, recipe and fraction, taken out of the settings."""
    fraction = settings.pop("fraction")
    if "recipe" not in settings:
        return arrays["scales"], settings.pop("ridge"), fraction
    optimizer, _ = RECIPES[settings.pop("recipe")]
    training = relu_network(arrays["inputs"], arrays["labels"], int(arrays["hidden"]))
    theta, moment = arrays["theta"], arrays.get("second_moment")
    scales, recipe = coordinates(DigitsNetwork(training, training, theta, theta, moment, optimizer))
    return None if np.ndim(scales) == 0 else np.asarray(scales), recipe, fraction


if __name__ == "__main__":
    serve(work, "torch")
