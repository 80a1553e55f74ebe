"""SGD, Adam and AdamW with parameter groups, schedules and clipping: a recipe for the step map of every step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, TypedDict

import numpy as np
from array_api_compat import array_namespace, device
from numpy import ndarray as Array

from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.optimizer.steps import AdamStep, SGDStep, State, StepMap

Numbers = Mapping[str, Any]  # settings by name: betas are pairs, flags are booleans
Group = tuple[slice | Array, Numbers]


class Shared(TypedDict):
    """The numbers of one step that all optimisers have."""

    lr: Tensor
    weight_decay: Tensor
    clip_norm: float | None


@dataclass(frozen=True, kw_only=True)
class Optimizer(ABC):
    """Settings that all optimisers share.

    weight_decay λ       SGD and Adam add λθ to the gradient, AdamW multiplies θ by 1 − ηλ
    groups               pairs (coordinates, {name: value}): a slice or index array of the flat θ and what differs there
    schedule             step t ↦ factor on every learning rate, a function or a sequence; None is 1
    clip_norm            the gradient is scaled by min(1, clip_norm/(‖g‖ + 10⁻⁶)) before the update
    """

    per_group: ClassVar[frozenset[str]] = frozenset({"lr", "weight_decay"})
    rounding: ClassVar[float] = 0.0  # relative, of torch's update against this one, beyond the state's own precision

    weight_decay: float = 0.0
    groups: Sequence[Group] = ()
    schedule: Callable[[int], float] | Sequence[float] | None = None
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        for where, settings in ((None, self._own()), *self.groups):
            place = "" if where is None else f" in group {where!r}"
            for name, value in settings.items():
                if name not in self.per_group:
                    raise ValueError(
                        f"{type(self).__name__} cannot vary {name!r}{place}; per group: {sorted(self.per_group)}"
                    )
                self._check(name, value, place)
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm must be positive, got {self.clip_norm}")

    def _own(self) -> Numbers:
        return {name: getattr(self, name) for name in self.per_group}

    def _check(self, name: str, value: Tensor, place: str) -> None:
        values = value if name == "betas" else (value,)
        upper = 1.0 if name == "betas" else np.inf
        if not all(0 <= float(entry) < upper for entry in values):
            interval = "[0, 1)" if name == "betas" else "[0, ∞)"
            raise ValueError(f"{name}{place} must lie in {interval}, got {value}")

    @property
    @abstractmethod
    def slots(self) -> int:
        """The number of arrays that the state holds beside θ."""

    @abstractmethod
    def at(self, t: int, theta: Tensor) -> StepMap:
        """The map of step t = 0, 1, … with its numbers in θ's dtype, namespace and device."""

    def rate(self, t: int) -> float:
        """The schedule's factor at step t."""
        if self.schedule is None:
            return 1.0
        if callable(self.schedule):
            return float(self.schedule(t))
        if t >= len(self.schedule):
            raise ValueError(f"the schedule has {len(self.schedule)} values and was asked for step {t}")
        return float(self.schedule[t])

    def start(self, theta: Tensor) -> State:
        """The state before the first step: θ and empty slots."""
        zero = array_namespace(theta).zeros_like(theta)
        return (theta, *(zero,) * self.slots)

    def plain(self) -> Optimizer:
        """Plain SGD with the same learning rates and nothing else."""
        groups = [(where, {"lr": settings["lr"]}) for where, settings in self.groups if "lr" in settings]
        return SGD(self._own()["lr"], groups=groups, schedule=self.schedule)

    def _spread(self, theta: Tensor, number: Callable[[Numbers], float]) -> Tensor:
        """A number made of a group's settings: one for all coordinates, or (p,) where groups differ."""
        own = self._own()
        common = float(number(own))
        values = [(where, float(number({**own, **settings}))) for where, settings in self.groups]
        if all(value == common for _, value in values):
            return common
        spread = array_namespace(theta).full(theta.shape[-1:], common, dtype=theta.real.dtype, device=device(theta))
        for where, value in values:
            spread[where] = value
        return spread

    def _shared(self, t: int, theta: Tensor) -> Shared:
        rate = self.rate(t)
        return {
            "lr": self._spread(theta, lambda own: rate * own["lr"]),
            "weight_decay": self._spread(theta, lambda own: own["weight_decay"]),
            "clip_norm": self.clip_norm,
        }


@dataclass(frozen=True)
class SGD(Optimizer):
    """torch.optim.SGD: d = g + λθ, b ← μb + (1 − dampening)d (first step: b = d), θ ← θ − η(d + μb or b)."""

    per_group: ClassVar[frozenset[str]] = frozenset({"lr", "weight_decay", "momentum", "dampening"})

    lr: float
    _: KW_ONLY
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not (self.slots and self.dampening == 0):
            raise ValueError(
                f"Nesterov momentum needs momentum > 0 and dampening 0, got {self.momentum} and {self.dampening}"
            )

    @property
    def slots(self) -> int:
        used = self.momentum or any(settings.get("momentum") for _, settings in self.groups)
        return 1 if used else 0

    def at(self, t: int, theta: Tensor) -> SGDStep:
        if not self.slots:
            return SGDStep(**self._shared(t, theta))
        damped = t > 0  # torch's first buffer is the gradient itself
        return SGDStep(
            **self._shared(t, theta),
            momentum=self._spread(theta, lambda own: own["momentum"]),
            fresh=self._spread(theta, lambda own: 1 - own["dampening"] * bool(damped and own["momentum"])),
            nesterov=self.nesterov,
        )


@dataclass(frozen=True)
class Adam(Optimizer):
    """torch.optim.Adam; the weight decay is added to the gradient. `eps_inside`: √(v̂ + ε) instead of √v̂ + ε."""

    per_group: ClassVar[frozenset[str]] = frozenset({"lr", "weight_decay", "betas", "eps"})
    decoupled: ClassVar[bool] = False

    lr: float = 1e-3
    _: KW_ONLY
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    amsgrad: bool = False
    eps_inside: bool = False

    @property
    def slots(self) -> int:
        return 3 if self.amsgrad else 2

    def at(self, t: int, theta: Tensor) -> AdamStep:
        return AdamStep(
            **self._shared(t, theta),
            beta1=self._spread(theta, lambda own: own["betas"][0]),
            beta2=self._spread(theta, lambda own: own["betas"][1]),
            eps=self._spread(theta, lambda own: own["eps"]),
            correction1=self._spread(theta, lambda own: 1 - own["betas"][0] ** (t + 1)),
            correction2=self._spread(theta, lambda own: 1 - own["betas"][1] ** (t + 1)),
            decoupled=self.decoupled,
            amsgrad=self.amsgrad,
            inside=self.eps_inside,
        )


@dataclass(frozen=True)
class AdamW(Adam):
    """torch.optim.AdamW: Adam with θ multiplied by 1 − ηλ instead of λθ added to the gradient."""

    decoupled: ClassVar[bool] = True

    _: KW_ONLY
    weight_decay: float = 1e-2
