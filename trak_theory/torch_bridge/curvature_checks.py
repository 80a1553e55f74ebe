"""Checks of an objective's second derivative against differences of its gradient, before a model trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from numpy import ndarray as Array
from torch import Tensor

from trak_theory.errors import UnsupportedError
from trak_theory.torch_bridge.objective import TorchObjective
from trak_theory.trajectory.states.training_step import mean_gradient, mean_weights

Value = TypeVar("Value")
PRECISION = 2e-3  # of a gradient in float32, where bfloat16 inside gives about 1e-2
DOUBLE_BELOW = 2**27  # numbers in the module; larger ones are not copied to float64


class Differences(NamedTuple):
    """lengths, relative to ‖θ‖: kinks ask for short ones, float32 inside a model for long ones; and the tolerance."""

    lengths: tuple[float, ...]
    tolerance: float


DOUBLE = Differences((1e-6, 1e-5, 1e-4, 1e-2), 0.01)
OWN = Differences((1e-3, 1e-2), 0.3)  # in the model's own dtype, where it is float32


def check_curvature(objective: TorchObjective, batch: Array) -> None:
    """Refuse Hessian-vector products that are not the derivative of the gradient, and lower precision inside forward.

    In float64, but for large models.
    """
    theta = objective.theta()
    double = sum(value.numel() for value in objective.model.module.parameters()) < DOUBLE_BELOW
    if theta.device.type == "mps":  # has no float64
        double = False
    elif double and theta.dtype != torch.float64:
        try:
            _check_precision(objective, batch, theta)
        except RuntimeError:  # the module makes tensors of a dtype of its own
            double = False
    _compare(objective, batch, theta.double() if double else theta, DOUBLE if double else OWN)
    objective.model.forget_casts()


def _check_precision(objective: TorchObjective, batch: Array, theta: Tensor) -> None:
    own, double = (mean_gradient(objective, at, batch[:1]).double() for at in (theta, theta.double()))
    off = relative(own - double, double)
    if off > PRECISION:
        raise UnsupportedError(
            f"in {str(theta.dtype).removeprefix('torch.')} the gradient is {off:.2g} away from the one in float64: "
            "forward computes in a lower precision inside (autocast, half, bfloat16); take that out"
        )


def _compare(objective: TorchObjective, batch: Array, theta: Tensor, how: Differences) -> None:
    weights, (shift, direction) = mean_weights(objective, theta, batch), _directions(theta)
    theta = theta + 0.01 * shift  # off the kinks of a symmetric start, such as zeros
    gradient = objective.gradient(theta, batch, weights)
    moving = gradient != 0  # training leaves the rest where it is, such as the row of a padding_idx
    direction = direction * moving
    product = attempt("a Hessian-vector product", lambda: objective.hvp(theta, batch, weights, direction[None])[0])
    best = (torch.inf, product)
    for length in how.lengths:
        ends = [objective.gradient(theta + sign * length * direction, batch, weights) for sign in (1, -1)]
        difference = moving * (ends[0] - ends[1]) / (2 * length)
        noise = 10 * torch.finfo(theta.dtype).eps / length * float(torch.linalg.vector_norm(gradient))
        error = moving * product - difference
        size = max(float(torch.linalg.vector_norm(part)) for part in (product, difference))
        off = float(torch.linalg.vector_norm(error))
        if off <= how.tolerance * size + noise:
            return
        best = min(best, (off / size, error), key=lambda found: found[0])
    raise UnsupportedError(
        f"a Hessian-vector product is {best[0]:.2g} of its size away from differences of gradients, most of it at "
        f"parameter {_largest(objective, best[1])!r}: its layer has a wrong second derivative, or forward or loss hold "
        "something fixed that depends on the parameters (.item(), detach, no_grad, rounding, the padding_idx of a tied "
        "Embedding, an autograd function of one's own)"
    )


def _directions(theta: Tensor) -> Tensor:
    """Two random directions (2, p) of the length of θ, always the same."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn((2, len(theta)), dtype=theta.dtype, generator=generator).to(theta.device)
    length = torch.linalg.vector_norm(theta).clamp(min=1e-3)
    return directions * length / torch.linalg.vector_norm(directions, dim=1, keepdim=True)


def _largest(objective: TorchObjective, difference: Tensor) -> str:
    places = objective.model.places
    return max(places, key=lambda name: float(torch.linalg.vector_norm(difference[places[name]])))


def attempt(what: str, compute: Callable[[], Value]) -> Value:
    try:
        return compute()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise UnsupportedError(
            f"{what} fails: {reason} (a kernel without a second derivative, gradient checkpointing, or an operation in "
            "place; replace it, or write it out in plain torch)"
        ) from error


def relative(difference: Tensor, whole: Tensor) -> float:
    """‖difference‖/‖whole‖, or ‖difference‖ where the whole is 0."""
    off, size = float(torch.linalg.vector_norm(difference)), float(torch.linalg.vector_norm(whole))
    return off / size if size > 0 else off


def rounding(like: Tensor) -> float:
    return float(torch.finfo(like.dtype).eps) ** 0.5
