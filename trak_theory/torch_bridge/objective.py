"""A torch module and a per-sample loss as the objective of a trajectory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from numpy import ndarray as Array
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.func import grad, vjp
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_map

from trak_theory.numerics.checks import positive_count
from trak_theory.torch_bridge.module import FlatModule, Inputs, Rows, Sample
from trak_theory.torch_bridge.refusals import check_module
from trak_theory.torch_bridge.shared_pass import SharedPass
from trak_theory.trajectory.query import as_numpy

SampleLoss = Callable[[Tensor, Tensor], Tensor]
Product = Callable[[Tensor], Tensor]


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """−log softmax(z)_y of each sample: logits (B, C), labels (B,) ↦ (B,)."""
    return functional.cross_entropy(outputs, targets, reduction="none")


class TorchObjective:
    """`Objective` of ℓ_i(θ) = loss(module(x_i; θ), y_i), i < n, in a flat θ (p,); see `FlatModule` for θ.

    module       any nn.Module whose samples do not interact; its forward is called on batches
    loss         outputs (B, …), targets (B, …) ↦ one value per sample (B,); `cross_entropy` for labels
    inputs       a tensor (n, …), a tuple of tensors (positional) or a mapping (by name); targets (n, …)
    parameters   names of the trained parameters; all with requires_grad by default
    batch_weights   a (n,): training minimises Σ_B a_i ℓ_i/Σ_B a_i on a batch B. The mean over all tokens of a batch has
                 ℓ_i = the mean over the sample's own and a_i = their number; None: the mean of the samples' losses
    chunk        samples that go through the module at once (each model or direction counts its own); None: all

    Numbers w_i of a loss Σ w_i ℓ_i/|B| belong into `loss`, which finds them in the targets. Everything follows θ's
    dtype and device. Hessian-vector products are reverse over reverse: one graph for all directions, and correct where
    forward mode is missing or wrong.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: SampleLoss,
        inputs: Inputs,
        targets: Tensor,
        *,
        parameters: Iterable[str] | None = None,
        batch_weights: ArrayLike | Tensor | None = None,
        chunk: int | None = None,
    ) -> None:
        check_module(module)
        self.model = FlatModule(module, parameters)
        self.of_output = loss
        self.rows = Rows(inputs, targets)
        self.batch_weights = None if batch_weights is None else _check_weights(batch_weights, self.rows.n)
        self.chunk = None if chunk is None else positive_count("chunk", chunk)
        # One kernel per model makes a grouped convolution: slower than a loop, and GroupNorm cannot read its output.
        self._one_by_one = any(isinstance(part, _ConvNd) for part in module.modules())
        self._check_loss()

    @property
    def n(self) -> int:
        return self.rows.n

    @property
    def p(self) -> int:
        return self.model.p

    def fingerprint(self) -> dict[str, str]:
        """Digests of the samples, and of the frozen parameters and buffers: what training must leave unchanged."""
        return {"samples": self.rows.fingerprint(), "frozen parameters or buffers": self.model.fingerprint()}

    def theta(self) -> Tensor:
        """The module's present parameters as θ (p,), a copy."""
        return self.model.theta()

    def outputs(self, theta: Tensor, batch: ArrayLike) -> Tensor:
        """θ (p,) ↦ module outputs (B, …)."""
        with torch.no_grad():
            return torch.cat([self.model(theta, *self.rows.take(part, theta)[:2]) for part, _ in self._pieces(batch)])

    def loss(self, theta: Tensor, batch: ArrayLike) -> Tensor:
        with torch.no_grad():
            pieces = [
                self._over_models(partial(self._losses, batch=part), len(part), theta)
                for part, _ in self._pieces(batch)
            ]
        return torch.cat(pieces, dim=-1)

    def gradient(self, theta: Tensor, batch: ArrayLike, weights: Tensor) -> Tensor:
        pieces = [
            self._over_models(partial(grad(self._total), batch=part), len(part), theta, weights[..., place])
            for part, place in self._pieces(batch)
        ]
        return sum(pieces[1:], start=pieces[0])

    def sample_gradients(self, theta: Tensor, batch: ArrayLike) -> Tensor:
        return torch.cat(self._parts_of_gradients(theta, batch), dim=-1)

    def sample_gradient_parts(self, theta: Tensor, batch: ArrayLike) -> list[tuple[slice, Tensor]]:
        """`sample_gradients` as (coordinates, rows) for every trained parameter: without the copy that joins them."""
        return list(zip(self.model.places.values(), self._parts_of_gradients(theta, batch), strict=True))

    def _parts_of_gradients(self, theta: Tensor, batch: ArrayLike) -> tuple[Tensor, ...]:
        def single(parts: tuple[Tensor, ...], sample: Sample) -> Tensor:
            args, named, target = tree_map(lambda part: part[None], sample)
            return self.of_output(self.model.with_parts(parts, args, named), target)[0]

        rows, parts = self.rows.take(batch, theta), self.model.parts(theta)
        return self.model.over(lambda sample: grad(single)(parts, sample), rows, at_once=self.chunk)

    def hvp(self, theta: Tensor, batch: ArrayLike, weights: Tensor, directions: Tensor) -> Tensor:
        def product(part: Array, own: Tensor) -> Product:
            _, pull = _vjp(lambda at: grad(self._total)(at, own, batch=part), theta)
            return lambda v: pull(v)[0]

        return self._products(product, batch, weights, directions)

    def shared_pass(self, theta: Tensor, batch: ArrayLike, weights: Tensor) -> SharedPass | None:
        """The gradient and what is to be had from the same pass; None where `chunk` splits the batch."""
        batch = np.asarray(batch)
        if self.chunk is not None and len(batch) > self.chunk:
            return None
        at_once = None if self.chunk is None else self.chunk // len(batch)
        args, named, targets = self.rows.take(batch, theta)

        def total(parts: Sequence[Tensor], own: Tensor) -> Tensor:
            return (own * self.of_output(self.model.with_parts(parts, args, named), targets)).sum()

        return SharedPass(self.model, total, theta, weights, at_once)

    def ggn(self, theta: Tensor, batch: ArrayLike, weights: Tensor, directions: Tensor) -> Tensor:
        def product(part: Array, own: Tensor) -> Product:
            args, named, targets = self.rows.take(part, theta)
            outputs, pull = _vjp(lambda at: self.model(at, args, named), theta)
            _, push = _vjp(lambda u: pull(u)[0], torch.zeros_like(outputs))  # u ↦ Jᵀu is linear: its own pull is J
            _, slope = _vjp(grad(lambda z: (own * self.of_output(z, targets)).sum()), outputs)
            return lambda v: pull(slope(push(v)[0])[0])[0]

        return self._products(product, batch, weights, directions)

    def _losses(self, theta: Tensor, batch: Array) -> Tensor:
        args, named, targets = self.rows.take(batch, theta)
        return self.of_output(self.model(theta, args, named), targets)

    def _total(self, theta: Tensor, weights: Tensor, batch: Array) -> Tensor:
        return (weights * self._losses(theta, batch)).sum()

    def _products(
        self, product: Callable[[Array, Tensor], Product], batch: ArrayLike, weights: Tensor, directions: Tensor
    ) -> Tensor:
        """A linear map, given piece by piece of the batch, applied to every direction."""
        total = torch.zeros_like(directions)
        for part, place in self._pieces(batch):
            total += self._many(product(part, weights[place]), len(part), directions)
        return total

    def _over_models(self, function: Callable[..., Tensor], size: int, theta: Tensor, *arrays: Tensor) -> Tensor:
        """function(θ, *arrays) for every model of the leading axes of θ."""
        if theta.ndim == 1:
            return function(theta, *arrays)
        lead = theta.shape[:-1]
        flat = [array.expand(*lead, array.shape[-1]).reshape(-1, array.shape[-1]) for array in (theta, *arrays)]
        if self._one_by_one:
            result = torch.stack([function(*row) for row in zip(*flat, strict=True)])
        else:
            result = self._many(function, size, *flat)
        return result.reshape(*lead, *result.shape[1:])

    def _many(self, function: Callable[..., Tensor], size: int, *arrays: Tensor) -> Tensor:
        """function over the leading axis of the arrays, as many rows at once as `chunk` allows for `size` samples."""
        at_once = len(arrays[0]) if self.chunk is None else max(1, self.chunk // size)
        if at_once == 1:
            return torch.stack([function(*row) for row in zip(*arrays, strict=True)])
        return self.model.over(function, *arrays, at_once=at_once)

    def _pieces(self, batch: ArrayLike) -> Iterator[tuple[Array, slice]]:
        """The batch in pieces of at most `chunk` samples, and where in it each lies."""
        batch = np.asarray(batch)
        size = self.chunk or len(batch)
        for first in range(0, len(batch), size):
            yield batch[first : first + size], slice(first, first + size)

    def _check_loss(self) -> None:
        batch = np.arange(min(2, self.n))
        with torch.no_grad():
            losses = self._losses(self.theta(), batch)
        shape = tuple(losses.shape)
        if shape != (len(batch),):
            raise ValueError(
                f"loss gave shape {shape} for {len(batch)} samples; it must return one value per sample, shape "
                f"({len(batch)},): use reduction='none', and average over what belongs to one sample"
            )


def _check_weights(weights: ArrayLike | Tensor, n: int) -> Array:
    array = as_numpy(weights) if isinstance(weights, Tensor) else np.asarray(weights, float)
    if array.shape != (n,):
        raise ValueError(f"batch_weights have shape {array.shape}, the objective has {n} samples")
    if not (np.isfinite(array).all() and (array >= 0).all() and array.any()):
        raise ValueError(f"batch_weights must be finite, ≥ 0 and not all 0, got {array.min()} to {array.max()}")
    return array


def _vjp(function: Product, at: Tensor) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor]]]:
    """function(at), and v ↦ (Jᵀv,)."""
    value, pull = vjp(function, at)[:2]
    return value, pull
