"""Coordinates in which a torch optimiser pulls every parameter with one ridge: decay, rates and moments by group."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy import ndarray as Array
from numpy.typing import ArrayLike
from torch import Tensor, nn

from trak_theory.errors import UnsupportedError
from trak_theory.numerics.checks import non_negative, real_array
from trak_theory.retraining.ridge_rule import TrainingRecipe, adam_scales
from trak_theory.torch_bridge.module import FlatModule
from trak_theory.trajectory.query import as_numpy


def training_coordinates(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    n: int,
    *,
    schedule: ArrayLike,
    parameters: Iterable[str] | None = None,
) -> tuple[Array, float]:
    """Scales (p,) and ridge λ_t of a run that `optimizer` took over n samples: arguments of `restored` and `linearize`.

    λ_a of every parameter from its group: of SGD n (wd + (1 − m)/Σ_t η_t), of Adam and AdamW as in `adam_scales`, with
    the moments that the optimiser holds. λ_t is the median of λ_a, the scale √(λ_t/λ_a), and 0 where no gradient ever
    moved a parameter. Groups with and without decay each have their ridge so.

    schedule (T,)   factors of each group's `initial_lr`, or of its `lr` if it has none, one per step: ones for a
                    constant rate

    Source: as `TrainingRecipe.ridge` and `adam_scales`.

    >>> layer = nn.Linear(2, 1)
    >>> groups = [{"params": [layer.weight], "weight_decay": 0.02}, {"params": [layer.bias]}]
    >>> optimizer = torch.optim.SGD(groups, lr=0.1)
    >>> scales, ridge = training_coordinates(layer, optimizer, 100, schedule=np.ones(500))
    >>> scales.round(3), round(ridge, 3)
    (array([1.   , 1.   , 1.414]), 4.0)
    """
    factors = non_negative("schedule", real_array("schedule", schedule, 1))
    model = FlatModule(module, parameters)
    groups = {id(value): group for group in optimizer.param_groups for value in group["params"]}
    ridges = np.empty(model.p)
    for name, value in model.parameters.items():
        group = groups.get(id(value))
        if group is None:
            raise UnsupportedError(
                f"the optimizer does not train parameter {name!r}; name what it does in `parameters`"
            )
        ridges[model.places[name]] = _ridges(optimizer, group, value, factors, n)
    moved = np.isfinite(ridges)
    if not moved.any():
        raise ValueError("no parameter was ever moved by a gradient: nothing was trained")
    common = float(np.median(ridges[moved]))
    return np.sqrt(common / ridges), common


def _ridges(
    optimizer: torch.optim.Optimizer, group: dict[str, Any], value: Tensor, factors: Array, n: int
) -> Array | float:
    """λ_a of one parameter tensor; ∞ where no gradient ever moved it."""
    rates = float(group.get("initial_lr", group["lr"])) * factors
    decay = float(group["weight_decay"])
    if isinstance(optimizer, torch.optim.SGD):
        return TrainingRecipe(decay, rates, momentum=float(group["momentum"])).ridge(n)
    if not isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW):
        raise UnsupportedError(f"{type(optimizer).__name__}: coordinates are known for SGD, Adam and AdamW")
    state = optimizer.state.get(value)
    if not state:
        return np.inf
    corrected = as_numpy(state["exp_avg_sq"].reshape(-1)) / (1 - group["betas"][1] ** float(state["step"]))
    if not corrected.any():
        return np.inf
    decoupled = isinstance(optimizer, torch.optim.AdamW) or bool(group.get("decoupled_weight_decay", False))
    scales, common = adam_scales(TrainingRecipe(decay, rates), corrected, n, decoupled=decoupled)
    return np.divide(common, scales**2, out=np.full(len(scales), np.inf), where=scales > 0)
