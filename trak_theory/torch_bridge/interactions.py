"""The layer through which the samples of a batch act on each other."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle

from trak_theory.torch_bridge.module import Sample, read


class Call(NamedTuple):
    """One call of a layer: its name, its class, and the floating tensors that went in and came out."""

    name: str
    kind: str
    inputs: list[Tensor]
    outputs: list[Tensor]


def interacting_layer(module: nn.Module, together: Sample, alone: Sample, tolerance: float) -> str | None:
    """The innermost layer whose output for the first sample depends on the rest, its inputs for it being the same.

    together, alone: the batch, and its first sample by itself. None: no layer, so that it must be the loss.
    """
    for batch, single in zip(calls(module, together), calls(module, alone), strict=False):
        if batch.name != single.name:
            return None  # the path through the layers depends on the data
        same_in = _agree(batch.inputs, single.inputs, tolerance)
        if same_in and not _agree(batch.outputs, single.outputs, tolerance):
            return f"{batch.kind} {batch.name!r}" if batch.name else f"the forward of {batch.kind} itself"
    return None


def calls(module: nn.Module, sample: Sample) -> list[Call]:
    """The calls of all layers in the order in which they end, so that a layer comes before what it is part of."""
    seen: list[Call] = []

    def watch(name: str, part: nn.Module) -> RemovableHandle:
        def record(_: nn.Module, args: object, named: object, outputs: object) -> None:
            seen.append(Call(name, type(part).__name__, _floating((args, named)), _floating(outputs)))

        return part.register_forward_hook(record, with_kwargs=True)

    hooks = [watch(name, part) for name, part in module.named_modules()]
    try:
        with torch.no_grad():
            read(module(*sample[0], **sample[1]))
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _floating(tree: object) -> list[Tensor]:
    leaves = tree_leaves(tree)
    return [leaf.detach() for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _agree(batch: list[Tensor], single: list[Tensor], tolerance: float) -> bool:
    return all(_first_agrees(a, b, tolerance) for a, b in zip(batch, single, strict=False))


def _first_agrees(batch: Tensor, single: Tensor, tolerance: float) -> bool:
    """True if the first sample's part of a batch's tensor is the lone sample's tensor, or if that cannot be told."""
    if batch.ndim != single.ndim:
        return True
    axes = [axis for axis, (a, b) in enumerate(zip(batch.shape, single.shape, strict=True)) if a != b]
    if len(axes) > 1:
        return True
    first = batch.narrow(axes[0], 0, single.shape[axes[0]]) if axes else batch
    off, size = torch.linalg.vector_norm(first - single), torch.linalg.vector_norm(single)
    return bool(off <= tolerance * size + tolerance**2)
