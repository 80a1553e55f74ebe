"""A module as a function of one flat parameter vector, and its inputs as rows that can be indexed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

Inputs = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]
Sample = tuple[tuple[Tensor, ...], dict[str, Tensor], Tensor]  # positional inputs, inputs by name, targets


class FlatModule:
    """θ (p,), args ↦ module(*args): the trained parameters of a module as one vector, all others frozen.

    parameters: names of those to train; by default all with requires_grad, so that frozen weights under a LoRA adapter
    stay out. Tied weights are one parameter. The order in θ is that of `module.named_parameters()`. Frozen
    parameters and buffers follow θ's dtype and device. A Hugging Face output is read at its `logits`.
    """

    def __init__(self, module: nn.Module, parameters: Iterable[str] | None = None) -> None:
        own = dict(module.named_parameters())
        names = {name for name, value in own.items() if value.requires_grad} if parameters is None else set(parameters)
        unknown = sorted(names - set(own))
        if unknown:
            raise ValueError(f"the module has no parameter {unknown[0]!r}; its parameters: {', '.join(own)}")
        if not names:
            raise ValueError("no parameter to train: all have requires_grad = False; name them in `parameters`")
        self.module = module
        self.parameters = {name: value for name, value in own.items() if name in names}
        different = {(value.dtype, value.device) for value in self.parameters.values()}
        if len(different) > 1:
            raise ValueError(f"the trained parameters differ in dtype or device: {sorted(map(str, different))}")
        self.places: dict[str, slice] = {}
        at = 0
        for name, value in self.parameters.items():
            self.places[name] = slice(at, at + value.numel())
            at += value.numel()
        self.p = at
        frozen = {name: value.detach() for name, value in own.items() if name not in names}
        self._frozen = {**frozen, **dict(module.named_buffers())}
        self._cast: tuple[Any, dict[str, Tensor]] = (None, {})

    def theta(self) -> Tensor:
        """The module's present parameters as θ (p,), a copy."""
        return torch.cat([value.detach().reshape(-1) for value in self.parameters.values()])

    def load(self, theta: Tensor) -> None:
        """Write θ (p,) into the module's own parameters."""
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(theta[self.places[name]].view_as(value))

    @property
    def in_own_hands(self) -> bool:
        """Whether the module now computes with its own parameters, not with those of a functional call."""
        name, value = next(iter(self.parameters.items()))
        owner, _, leaf = name.rpartition(".")
        return getattr(self.module.get_submodule(owner), leaf) is value

    def __call__(self, theta: Tensor, args: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> Tensor:
        parts = torch.split(
            theta, [value.numel() for value in self.parameters.values()]
        )  # slices: a (p,) gradient each
        trained = {
            name: part.view_as(value) for (name, value), part in zip(self.parameters.items(), parts, strict=True)
        }
        values = {**self._frozen_like(theta), **trained}
        return read(functional_call(self.module, values, args, dict(named)))

    def _frozen_like(self, theta: Tensor) -> dict[str, Tensor]:
        key = (theta.dtype, theta.device)
        if key != self._cast[0]:
            self._cast = (key, {name: follow(value, theta) for name, value in self._frozen.items()})
        return self._cast[1]


class Rows:
    """n samples as tensors with a leading axis: one tensor, a tuple (positional) or a mapping (by name)."""

    def __init__(self, inputs: Inputs, targets: Tensor) -> None:
        self.args = () if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple) else (inputs,)
        self.named = dict(inputs) if isinstance(inputs, Mapping) else {}
        self.targets = targets
        lengths = {len(part) for part in (*self.args, *self.named.values(), targets)}
        if len(lengths) != 1:
            raise ValueError(f"inputs and targets differ in their number of samples: {sorted(lengths)}")
        self.n = lengths.pop()

    def take(self, batch: Any, like: Tensor) -> Sample:
        """The samples `batch` on θ's device, floating inputs in θ's dtype."""

        def rows(part: Tensor) -> Tensor:
            return follow(part[torch.as_tensor(batch, device=part.device)], like)

        return tuple(map(rows, self.args)), {name: rows(part) for name, part in self.named.items()}, rows(self.targets)


def follow(value: Tensor, like: Tensor) -> Tensor:
    return value.to(like.device, like.dtype) if value.is_floating_point() else value.to(like.device)


def read(outputs: Any) -> Tensor:
    """A module's output tensor; the logits of a Hugging Face output."""
    return outputs if isinstance(outputs, Tensor) else outputs.logits
