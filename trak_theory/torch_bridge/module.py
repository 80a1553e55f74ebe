"""A module as a function of one flat parameter vector, and its inputs as rows that can be indexed."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.backends import cudnn, mha, mkldnn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves, tree_map

from trak_theory.errors import UnsupportedError

Inputs = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]
Result = TypeVar("Result", Tensor, tuple[Tensor, ...])
Sample = tuple[tuple[Tensor, ...], dict[str, Tensor], Tensor]  # positional inputs, inputs by name, targets


class FlatModule:
    """θ (p,), args ↦ module(*args): the trained parameters of a module as one vector, all others frozen.

    parameters: names of those to train; by default all with requires_grad, so that frozen weights under a LoRA adapter
    stay out. Tied weights are one parameter. The order in θ is that of `module.named_parameters()`. Frozen
    parameters and buffers follow θ's dtype and device. Outputs as in `read`.
    """

    def __init__(self, module: nn.Module, parameters: Iterable[str] | None = None) -> None:
        own = dict(module.named_parameters())
        names = {name for name, value in own.items() if value.requires_grad} if parameters is None else set(parameters)
        unknown = sorted(names - set(own))
        if unknown:
            raise ValueError(f"the module has no parameter {unknown[0]!r}; its parameters: {', '.join(own)}")
        if not names:
            raise ValueError("no parameter to train: all have requires_grad = False; name them in `parameters`")
        _refuse_half(own, names)
        self.module = module
        self.recurrent = any(isinstance(part, nn.RNNBase) for part in module.modules())
        self.one_by_one = self.recurrent  # whether vmap cannot go through the module
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
        self._cast: tuple[tuple[torch.dtype, torch.device] | None, dict[str, Tensor]] = (None, {})

    def theta(self) -> Tensor:
        """The module's present parameters as θ (p,), a copy."""
        return torch.cat([value.detach().reshape(-1) for value in self.parameters.values()])

    def load(self, theta: Tensor) -> None:
        """Write θ (p,) into the module's own parameters."""
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(theta[self.places[name]].view_as(value))

    def gradient_of(self, value: Tensor) -> list[Tensor | None]:
        """∂value/∂parameter by plain autograd through the module's own parameters, which keep their `.grad`."""
        return list(torch.autograd.grad(value, list(self.parameters.values()), allow_unused=True))

    @property
    def uses_own_parameters(self) -> bool:
        """True if the module now computes with its own parameters, not with those of a functional call."""
        name, value = next(iter(self.parameters.items()))
        owner, _, leaf = name.rpartition(".")
        return getattr(self.module.get_submodule(owner), leaf) is value

    def __call__(self, theta: Tensor, args: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> Tensor:
        return self.with_parts(self.parts(theta), args, named)  # slices: a (p,) gradient each

    def parts(self, theta: Tensor) -> tuple[Tensor, ...]:
        """θ (p,) as one vector for every trained parameter."""
        return torch.split(theta, [value.numel() for value in self.parameters.values()])

    def with_parts(self, parts: Sequence[Tensor], args: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> Tensor:
        """module(*args) with the trained parameters' vectors."""
        trained = {
            name: part.view_as(value) for (name, value), part in zip(self.parameters.items(), parts, strict=True)
        }
        values = {**self._frozen_like(parts[0]), **trained}
        with differentiable_kernels(self.recurrent):
            return read(functional_call(self.module, values, args, dict(named)))

    def over(self, function: Callable[..., Result], *arrays: object, at_once: int | None = None) -> Result:
        """function(row), a tensor or a tuple of them, for every row of the leading axis of some trees of tensors.

        By vmap, or one by one where vmap cannot go through the module: recurrent layers, `.item()`, branches on data.
        """
        if not self.one_by_one:
            try:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "There is a performance drop")  # a rule that vmap lacks
                    return vmap(function, chunk_size=at_once)(*arrays)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:
                self.one_by_one = True
        count = len(tree_leaves(arrays)[0])
        rows = [function(*_row(arrays, k)) for k in range(count)]
        return tree_map(lambda *same: torch.stack(same), *rows)

    def fingerprint(self) -> str:
        """A digest of the frozen parameters and the buffers."""
        return digest(self._frozen)

    def forget_casts(self) -> None:
        """Free the copies of the frozen parameters in another dtype."""
        self._cast = (None, {})

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

    def fingerprint(self) -> str:
        """A digest of inputs and targets."""
        positional = {str(place): part for place, part in enumerate(self.args)}
        return digest({**positional, **self.named, "targets": self.targets})

    def part(self, place: slice) -> Rows:
        """Some of the samples, not copied."""
        own = Rows({name: part[place] for name, part in self.named.items()}, self.targets[place])
        own.args = tuple(part[place] for part in self.args)
        return own

    def take(self, batch: ArrayLike, like: Tensor) -> Sample:
        """The samples `batch` on θ's device, floating inputs in θ's dtype."""

        def rows(part: Tensor) -> Tensor:
            return follow(part[torch.as_tensor(batch, device=part.device)], like)

        return tuple(map(rows, self.args)), {name: rows(part) for name, part in self.named.items()}, rows(self.targets)


def follow(value: Tensor, like: Tensor) -> Tensor:
    return value.to(like.device, like.dtype) if value.is_floating_point() else value.to(like.device)


def read(outputs: object) -> Tensor:
    """A module's output tensor: of a tuple the first entry, of a mapping (a Hugging Face output) its `logits`."""
    if isinstance(outputs, tuple | list) and outputs:
        outputs = outputs[0]
    elif isinstance(outputs, Mapping):
        outputs = outputs.get("logits", outputs)
    if not isinstance(outputs, Tensor):
        held = f" with {sorted(map(str, outputs))}" if isinstance(outputs, Mapping) else ""
        raise UnsupportedError(
            f"the module returns {type(outputs).__name__}{held}; wrap it in a module whose forward returns the tensor "
            "that the loss is made of"
        )
    return outputs


def _row(arrays: tuple[object, ...], k: int) -> tuple[object, ...]:
    return tree_map(lambda part: part[k], arrays)


@contextmanager
def differentiable_kernels(recurrent: bool) -> Iterator[None]:
    """Kernels that have a second derivative: attention as matrix products, recurrent layers unfused."""
    fast = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), _unfused() if recurrent else nullcontext():
            yield
    finally:
        mha.set_fastpath_enabled(fast)


@contextmanager
def _unfused() -> Iterator[None]:
    with mkldnn.flags(False, None, None), cudnn.flags(enabled=False):
        yield


def digest(tensors: Mapping[str, Tensor]) -> str:
    """A hash of the bytes of some tensors, by name."""
    content = hashlib.blake2b(digest_size=16)
    for name, value in tensors.items():
        content.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        content.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return content.hexdigest()


def _refuse_half(own: Mapping[str, Tensor], names: set[str]) -> None:
    for name in names:
        if own[name].dtype not in (torch.float32, torch.float64):
            raise UnsupportedError(
                f"parameter {name!r} is trained in {own[name].dtype}, whose updates are rounding noise beside one "
                "sample's influence; train in float32: model.float(), or from_pretrained(..., dtype=torch.float32)"
            )
