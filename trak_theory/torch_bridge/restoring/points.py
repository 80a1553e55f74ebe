"""Per-sample gradients and curvature directions of a module, sketched as they come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy import ndarray as Array
from torch import Generator, Tensor
from torch.func import vjp
from torch.utils._pytree import tree_map

from trak_theory.torch_bridge.features import BLOCK_BYTES, Function
from trak_theory.torch_bridge.module import FlatModule, Rows, Sample, digest
from trak_theory.torch_bridge.restoring.output_losses import OutputLoss
from trak_theory.torch_bridge.sketch import Sketch
from trak_theory.trajectory.query import as_numpy

TINY = torch.finfo(torch.float32).tiny


class Points(NamedTuple):
    """Of b samples and J sketches; all rows sketched, (…, k) for g and the directions.

    rows (J, b, 1 + m, k)  of Jᵀc, the gradient of the loss, and of Jᵀb_a
    rest (J, b, k)         of Jᵀr, the curvature that no direction holds
    decrement (b,)         cᵀA⁺c, see `OutputCurvature`
    trace, kept (b,)       of A, and of Σ_a b_ab_aᵀ
    spread (b,)            (Σg_a²)²/Σg_a⁴ of the gradient before it is sketched
    """

    rows: Array
    rest: Array
    decrement: Array
    trace: Array
    kept: Array
    spread: Array


@dataclass(frozen=True, eq=False)
class SketchedModule:
    """J_iᵀ(·) of a module, in scaled coordinates and sketched: outputs' cotangents (B, …) ↦ (J, B, k)."""

    model: FlatModule
    sketches: Sequence[Sketch]
    scales: Tensor | None

    def points(self, rows: Rows, loss: OutputLoss, count: int, *, probed: int, draws: Generator) -> Points:
        """Of all samples, the first `probed` of them with their rest."""
        theta = self.model.theta()
        done: list[Points] = []
        at = 0
        for sample in blocks(self.model, rows, theta, 2 + count):
            done.append(self._block(theta, sample, loss, count, max(0, probed - at), draws))
            at += len(done[-1].trace)
        return Points(*(np.concatenate(parts, axis=int(parts[0].ndim > 1)) for parts in zip(*done, strict=True)))

    def fingerprint(self, rows: Rows, loss: OutputLoss) -> str:
        """A digest of the module's layers, and of the loss by its gradient at made-up outputs of one sample."""
        sample = rows.take(np.arange(1), self.model.theta())
        outputs = self._outputs(self.model.theta(), sample)
        made_up = torch.sin(torch.arange(outputs.numel(), dtype=torch.float64)).reshape(outputs.shape)
        slope = loss.curvature(made_up.to(outputs.device), sample[2], 1, Generator().manual_seed(0)).gradient
        layers = torch.frombuffer(bytearray(repr(self.model.module).encode()), dtype=torch.uint8)
        return digest({"layers": layers, "slope": slope})

    def queries(self, rows: Rows, output: Function) -> Array:
        """∂output_j/∂θ, sketched: (J, q, k)."""
        theta = self.model.theta()
        parts = []
        for args, named, targets in blocks(self.model, rows, theta, 1):
            outputs = self._outputs(theta, (args, named, targets)).requires_grad_()
            (slope,) = torch.autograd.grad(output(outputs, targets).sum(), outputs)
            parts.append(self._pulled(theta, (args, named, targets), slope[:, None])[0][:, 0])
        return _by_sketch(torch.cat(parts))

    def _block(
        self, theta: Tensor, sample: Sample, loss: OutputLoss, count: int, probed: int, draws: Generator
    ) -> Points:
        outputs = self._outputs(theta, sample)
        whole = outputs.isfinite().flatten(1).all(1)
        outputs = torch.where(whole.reshape(-1, *[1] * (outputs.ndim - 1)), outputs, 0.0)
        found = loss.curvature(outputs, sample[2], count, draws)
        rows, spread = self._pulled(theta, sample, torch.cat([found.gradient[:, None], found.directions], 1))
        rest = torch.zeros_like(rows[:probed, 0])
        if probed and bool(found.rest.any()):
            rest = self._pulled(theta, _first(sample, probed), found.rest[:probed, None])[0][:, 0]
        return Points(
            _by_sketch(rows),
            _by_sketch(rest),
            as_numpy(found.decrement),
            as_numpy(torch.where(whole, found.trace, torch.nan)),
            as_numpy(found.directions.flatten(1).square().sum(1)),
            as_numpy(spread),
        )

    def _outputs(self, theta: Tensor, sample: Sample) -> Tensor:
        args, named, _ = sample
        with torch.no_grad():
            return self.model(theta, args, named)

    def _pulled(self, theta: Tensor, sample: Sample, cotangents: Tensor) -> tuple[Tensor, Tensor]:
        """J_iᵀ of cotangents (B, a, …): sketched (B, a, J, k), and the spread (B,) of the first."""

        def single(row: Sample, own: Tensor) -> Tensor:
            args, named, _ = tree_map(lambda part: part[None], row)
            found_at = vjp(lambda at: self.model(at, args, named)[0], theta)
            outputs, pull = found_at[0], found_at[1]
            gradients = (pull(cotangent)[0] for cotangent in own.to(outputs.dtype))
            return torch.stack([self._sketched(part, measured=not place) for place, part in enumerate(gradients)])

        pulled = self.model.over(single, sample, cotangents)
        squares, fourths = pulled[:, 0, -2].double(), pulled[:, 0, -1].double()
        spread = torch.where(fourths > 0, squares**2 / fourths, 1.0)
        return pulled[..., :-2].unflatten(-1, (len(self.sketches), -1)), spread

    def _sketched(self, gradient: Tensor, *, measured: bool) -> Tensor:
        """(J k + 2,): its sketches, and if measured Σg² and Σg⁴ in units of its largest entry."""
        gradient = gradient if self.scales is None else gradient * self.scales
        sizes = gradient.new_zeros(2)
        if measured:
            squares = (gradient / gradient.abs().amax().clamp(min=TINY)).square()
            sizes = torch.stack([squares.sum(), squares.square().sum()])
        return torch.cat([*(sketch(gradient) for sketch in self.sketches), sizes])


def blocks(model: FlatModule, rows: Rows, theta: Tensor, cotangents: int) -> Iterator[Sample]:
    """Samples whose gradients of that many cotangents each fill `BLOCK_BYTES`, at least one."""
    at_once = max(1, BLOCK_BYTES // (model.p * theta.element_size() * cotangents))
    for first in range(0, rows.n, at_once):
        yield rows.take(np.arange(first, min(first + at_once, rows.n)), theta)


def _first(sample: Sample, count: int) -> Sample:
    args, named, targets = tree_map(lambda part: part[:count], sample)
    return args, named, targets


def _by_sketch(rows: Tensor) -> Array:
    """(B, …, J, k) ↦ (J, B, …, k) in single precision."""
    return rows.movedim(-2, 0).float().cpu().numpy()
