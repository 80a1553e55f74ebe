"""Steps of torch.optim as optimisers of the trajectory code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from trak_theory.errors import UnsupportedError
from trak_theory.torch_bridge.module import FlatModule
from trak_theory.trajectory.optimizer.recipes import Optimizer
from trak_theory.trajectory.optimizer.steps import State
from trak_theory.trajectory.optimizer.torch_settings import OPTIMIZERS, from_torch, not_covered

KINDS = tuple(getattr(torch.optim, name) for name in OPTIMIZERS if hasattr(torch.optim, name))  # Muon: torch ≥ 2.9
MATRICES = tuple(kind for kind in KINDS if kind.__name__ == "Muon")


def check_optimizer(optimizer: torch.optim.Optimizer, model: FlatModule) -> None:
    """Refuse an optimiser that is not covered, or whose parameters are not θ's."""
    if type(optimizer) not in KINDS:
        kind = type(optimizer)
        where = "torch.optim" if kind.__module__.startswith("torch.optim") else kind.__module__
        raise UnsupportedError(not_covered(kind.__qualname__, where))
    names = {id(value): name for name, value in model.parameters.items()}
    held = {id(value) for group in optimizer.param_groups for value in group["params"] if value.requires_grad}
    missing = [name for key, name in names.items() if key not in held]
    if missing:
        raise UnsupportedError(
            f"parameter {missing[0]!r} of the objective is not in the optimiser; freeze it with requires_grad_(False) "
            "before both are built, or add it to the optimiser"
        )
    if held - set(names):
        raise UnsupportedError(
            f"the optimiser holds {len(held - set(names))} parameters that are not the objective's; give both the same"
        )


def recipe(optimizer: torch.optim.Optimizer, model: FlatModule, clip_norm: float | None) -> Optimizer:
    """The optimiser as it stands: `from_torch` of its parameter groups."""
    places = {id(value): model.places[name] for name, value in model.parameters.items()}
    groups = []
    for group in optimizer.param_groups:
        own = [places[id(value)] for value in group["params"] if value.requires_grad]  # torch skips the others
        if not own:  # the Trainer makes a group without decay even where nothing is in it, as under LoRA
            continue
        # Schedulers keep notes of their own beside the optimiser's settings.
        settings = {name: _number(value) for name, value in group.items() if name in optimizer.defaults}
        if isinstance(optimizer, MATRICES):
            settings["shapes"] = tuple(tuple(value.shape) for value in model.parameters.values())
        groups += [(place, settings) for place in _adjacent(own)]
    return from_torch(type(optimizer).__name__, groups, clip_norm=clip_norm)


def _adjacent(places: Sequence[slice]) -> list[slice]:
    """The same coordinates of θ in as few slices as there are gaps."""
    joined: list[slice] = []
    for place in sorted(places, key=lambda own: own.start):
        if joined and joined[-1].stop == place.start:
            joined[-1] = slice(joined[-1].start, place.stop)
        else:
            joined.append(place)
    return joined


def _number(value: object) -> object:
    return value.item() if isinstance(value, Tensor) else value


def slot_names(optimizer: torch.optim.Optimizer, slots: int) -> tuple[str, ...]:
    if isinstance(optimizer, (torch.optim.SGD, *MATRICES)):
        return ("momentum_buffer",)[:slots]
    return ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")[:slots]


def state(optimizer: torch.optim.Optimizer, model: FlatModule, slots: int) -> State:
    """x = (θ, *slots) as torch holds it; what it has not made yet is 0."""

    def flat(name: str) -> Tensor:
        parts = [_held(optimizer.state, value, name) for value in model.parameters.values()]
        return torch.cat([part.reshape(-1) for part in parts])

    return (model.theta(), *(flat(name) for name in slot_names(optimizer, slots)))


def _held(states: Mapping[Tensor, Mapping[str, Tensor]], value: Tensor, name: str) -> Tensor:
    held = states.get(value, {}).get(name)
    return torch.zeros_like(value) if held is None else held.detach()


def steps_taken(optimizer: torch.optim.Optimizer, model: FlatModule) -> int:
    """Updates made so far; for SGD only whether there was one."""
    counts = set()
    for value in model.parameters.values():
        own = optimizer.state.get(value, {})
        counts.add(int(own["step"]) if "step" in own else int(own.get("momentum_buffer") is not None))
    if len(counts) > 1 and not isinstance(optimizer, (torch.optim.SGD, *MATRICES)):
        raise UnsupportedError(f"the parameters have been updated {sorted(counts)} times: their step counts differ")
    return max(counts)
