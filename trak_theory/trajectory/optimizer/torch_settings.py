"""From the parameter groups of a torch optimiser to the recipe of its step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from trak_theory.trajectory.optimizer.muon import Muon
from trak_theory.trajectory.optimizer.recipes import SGD, Adam, AdamW, Group, Optimizer

OPTIMIZERS: dict[str, type[SGD] | type[Adam] | type[Muon]] = {kind.__name__: kind for kind in (SGD, Adam, AdamW, Muon)}
INSTEAD = {  # optimisers of torch that are not covered, and what to train with
    "RMSprop": "Adam(betas=(0, alpha)) is RMSprop with its second moment corrected for a start at 0",
    "NAdam": "train with Adam or AdamW; NAdam's schedule of the momentum is not followed",
    "RAdam": "train with AdamW and a warm-up of the learning rate, which is what RAdam stands for",
    "Adafactor": "train with AdamW; a factored second moment mixes the coordinates of a matrix",
    "Adagrad": "train with Adam or AdamW",
    "LBFGS": "train with SGD or AdamW; a line search evaluates the loss many times a step",
}
EXECUTION = {"params", "foreach", "fused", "capturable", "differentiable", "initial_lr"}  # no effect on the numbers


def not_covered(kind: str, module: str = "torch.optim") -> str:
    """What to say of an optimiser that is not covered."""
    instead = INSTEAD.get(kind, f"choose torch.optim.{', '.join(OPTIMIZERS)}")
    return f"{module}.{kind} is not covered; {instead}"


def from_torch(kind: str, groups: Sequence[Group], *, clip_norm: float | None = None) -> Optimizer:
    """The optimiser that torch.optim's `kind` is at one step, from its parameter groups (coordinates, settings).

    Muon's settings also hold `shapes`, those of all its matrices. Refuses by name an optimiser or an option that
    changes the numbers and is not covered.
    """
    if kind not in OPTIMIZERS:
        raise ValueError(not_covered(kind))
    if kind == "Adam" and all(settings.get("decoupled_weight_decay") for _, settings in groups):
        kind = "AdamW"
    optimizer = OPTIMIZERS[kind]
    shared = {field.name for field in fields(optimizer)} - optimizer.per_group - {"groups", "schedule", "clip_norm"}
    common: dict[str, Any] = {"bfloat16": True} if kind == "Muon" else {}
    varying: list[Group] = []
    for where, settings in groups:
        known = {name: value for name, value in settings.items() if name not in EXECUTION}
        if kind == "AdamW":
            known.pop("decoupled_weight_decay", None)
        for name in sorted(set(known) - optimizer.per_group - shared):
            if known[name]:
                raise ValueError(f"{kind}'s option {name} = {known[name]!r} is not covered; switch it off")
        for name in sorted(shared & set(known)):
            if common.setdefault(name, known[name]) != known[name]:
                raise ValueError(f"{kind}'s option {name} differs between parameter groups, which is not covered")
        varying.append((where, {name: known[name] for name in sorted(optimizer.per_group & set(known))}))
    first = varying[0][1] if varying else {}
    groups = tuple(group for group in varying if group[1] != first)
    return optimizer(**first, **common, groups=groups, clip_norm=clip_norm)
