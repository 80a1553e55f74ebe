"""Checks of a model before its first step: whether the objective's derivatives are those of the training.

The references take a path of their own: the module itself, one sample at a time, plain autograd, differences.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy import ndarray as Array
from torch import Tensor, nn
from torch.backends import cudnn

from trak_theory.errors import UnsupportedError
from trak_theory.torch_bridge.curvature_checks import attempt, check_curvature, relative, rounding
from trak_theory.torch_bridge.interactions import interacting_layer
from trak_theory.torch_bridge.module import read
from trak_theory.torch_bridge.objective import TorchObjective
from trak_theory.torch_bridge.refusals import check_module
from trak_theory.trajectory.convention import Convention
from trak_theory.trajectory.optimizer.recipes import SGD
from trak_theory.trajectory.query import loss_query
from trak_theory.trajectory.selection.lookahead import segment
from trak_theory.trajectory.states.training_step import batch_weights
from trak_theory.trajectory.sweep.reverse import Settings, reverse_sweep

SAMPLES = 4


def preflight(objective: TorchObjective) -> None:
    """Refuse, before it trains, a model that a trajectory cannot describe; about ten gradients on four samples.

    Compared are: the gradient with itself (randomness, buffers that forward changes), the sum of the gradients of
    single samples with the batch's (samples that interact, by name of the layer), both with the objective's, its
    Hessian-vector product with differences of gradients; two steps are swept. Nothing of the module is changed. TF32
    is off meanwhile: its rounding would hide what is looked for.
    """
    check_module(objective.model.module)
    batch = _few(objective)
    with _fresh_generators(objective), _without_tf32():
        reference = _check_repeats(objective, batch)
        _check_samples_are_alone(objective, batch, reference)
        _check_objective(objective, batch, reference)
        check_curvature(objective, batch)
        _try_sweep(objective, batch)


def _few(objective: TorchObjective) -> Array:
    """At most SAMPLES samples that have a weight, spread over the data."""
    weighing = np.flatnonzero(batch_weights(objective, np.arange(objective.n)))
    return weighing[np.unique(np.linspace(0, len(weighing) - 1, SAMPLES).astype(int))]


@contextmanager
def in_training_mode(module: nn.Module) -> Iterator[None]:
    """The module as `module.train()` leaves it; the mode of every layer is restored."""
    modes = [(part, part.training) for part in module.modules()]
    module.train()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def own_losses(objective: TorchObjective, batch: Array) -> Tensor:
    """ℓ (B,) of the module itself, without a functional call."""
    model = objective.model
    args, named, targets = objective.rows.take(batch, next(iter(model.parameters.values())))
    return objective.of_output(read(model.module(*args, **named)), targets)


@contextmanager
def _fresh_generators(objective: TorchObjective) -> Iterator[None]:
    device = next(iter(objective.model.parameters.values())).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.enable_grad():
        yield


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Products of float32 numbers in float32; the settings are restored."""
    before = torch.get_float32_matmul_precision(), cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        cudnn.allow_tf32 = before[1]


def _check_repeats(objective: TorchObjective, batch: Array) -> tuple[Tensor, Tensor]:
    """Losses (B,) and mean gradient (p,) of the module itself, which must come out the same twice."""
    module = objective.model.module
    before = {name: value.clone() for name, value in module.named_buffers()}
    losses, gradient = _own_gradient(objective, batch)
    if not bool(torch.isfinite(losses).all()):
        worst = int(batch[int((~torch.isfinite(losses)).int().argmax())])
        raise UnsupportedError(
            f"the loss of sample {worst} is not finite before the first step; check its row and loss"
        )
    changed = [name for name, value in module.named_buffers() if not torch.equal(value, before[name])]
    for name, value in module.named_buffers():
        value.copy_(before[name])
    if changed:
        raise UnsupportedError(
            f"forward changes the buffer {changed[0]!r}: the model is another one after every pass; keep it fixed "
            "during training (eval mode of that layer, or a plain attribute if it is only a count)"
        )
    off = relative(_own_gradient(objective, batch)[1] - gradient, gradient)
    if off > rounding(gradient):
        raise UnsupportedError(
            f"the same gradient comes out {off:.2g} away the second time: something in forward or loss is random "
            "(functional dropout, sampling, noise); make it deterministic"
        )
    return losses, gradient


def _own_gradient(objective: TorchObjective, batch: Array) -> tuple[Tensor, Tensor]:
    losses = own_losses(objective, batch)
    if not losses.requires_grad:
        raise UnsupportedError("the loss does not depend on any trained parameter: is it detached, or under no_grad?")
    parts = objective.model.gradient_of(losses.mean())
    for (name, value), part in zip(objective.model.parameters.items(), parts, strict=True):
        if part is None:
            raise UnsupportedError(without_gradient(name))
        if part.is_sparse:
            raise UnsupportedError(f"parameter {name!r} has a sparse gradient; build its layer with sparse=False")
        assert part.shape == value.shape
    return losses.detach(), torch.cat([part.reshape(-1) for part in parts if part is not None])


def without_gradient(name: str) -> str:
    return (
        f"parameter {name!r} has no gradient, so that the optimiser skips it; freeze it with requires_grad_(False) "
        "before objective and optimiser are built, or let the loss depend on it"
    )


def _check_samples_are_alone(objective: TorchObjective, batch: Array, reference: tuple[Tensor, Tensor]) -> None:
    losses, gradient = reference
    single = [_own_gradient_alone(objective, batch[k : k + 1]) for k in range(len(batch))]
    lone_losses = torch.stack([loss for loss, _ in single])
    lone = torch.stack([own for _, own in single])
    size = torch.linalg.vector_norm(lone, dim=1).mean()
    off = max(relative(lone_losses - losses, losses), relative(lone.mean(0) - gradient, size))
    if off <= 10 * rounding(gradient):
        return
    like = next(iter(objective.model.parameters.values()))
    together, alone = objective.rows.take(batch, like), objective.rows.take(batch[:1], like)
    layer = interacting_layer(objective.model.module, together, alone, rounding(gradient))
    raise UnsupportedError(
        f"samples interact in {layer or 'the loss'}: alone, a sample has another loss or gradient than in a batch (off "
        f"by {off:.2g}), so that none has an influence of its own; use what looks at one sample at a time "
        "(LayerNorm or GroupNorm, a loss per sample), or frozen statistics"
    )


def _own_gradient_alone(objective: TorchObjective, sample: Array) -> tuple[Tensor, Tensor]:
    """Loss () and gradient (p,) of one sample; zero where it does not reach a parameter."""
    loss = own_losses(objective, sample)[0]
    parts = objective.model.gradient_of(loss)
    values = objective.model.parameters.values()
    filled = [torch.zeros_like(value) if part is None else part for value, part in zip(values, parts, strict=True)]
    return loss.detach(), torch.cat([part.reshape(-1) for part in filled])


def _check_objective(objective: TorchObjective, batch: Array, reference: tuple[Tensor, Tensor]) -> None:
    theta, gradient = objective.theta(), reference[1]
    weights = torch.full_like(reference[0], 1 / len(batch))
    found = attempt("the gradient", lambda: objective.gradient(theta, batch, weights))
    each = attempt("the gradient of a sample", lambda: objective.sample_gradients(theta, batch))
    size = torch.linalg.vector_norm(each, dim=1).mean()
    for what, value in (("the batch", found), ("single samples", each.mean(0))):
        off = relative(value - gradient, size)
        if off > 10 * rounding(theta):
            raise UnsupportedError(
                f"as a function of its parameters the module has another gradient for {what} than in training (off by "
                f"{off:.2g}): its forward uses parameters that it copied elsewhere, or changes something in place; "
                "let it read them from its layers at every pass"
            )


def _try_sweep(objective: TorchObjective, batch: Array) -> None:
    """Two steps of gradient descent on a copy of θ, attributed to two queries."""
    run = segment(objective, [batch, batch], SGD(1e-6), (objective.theta(),), 0)
    query = loss_query(objective, batch[:2])
    found = attempt("a sweep", lambda: list(reverse_sweep(run, query, Settings(), Convention())))
    if not all(np.isfinite(part.influence).all() for part in found):
        raise UnsupportedError("one step of the sweep gives values that are not finite; check the loss at its limits")
