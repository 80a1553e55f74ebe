"""Products with the curvature directions of a module's samples: no gradient of a sample is ever held."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy import ndarray as Array
from torch import Generator, Tensor
from torch.func import jvp, vjp, vmap

from trak_theory.torch_bridge.features import BLOCK_BYTES
from trak_theory.torch_bridge.module import FlatModule, Rows, Sample, follow
from trak_theory.torch_bridge.restoring.output_losses import OutputLoss
from trak_theory.torch_bridge.restoring.points import Points, SketchedModule, blocks
from trak_theory.torch_bridge.sketch import Sketch
from trak_theory.trajectory.query import as_numpy


class Along(NamedTuple):
    """J_iv along a sample's outputs: pull c_iᵀJ_iv (n, c), directions b_iaᵀJ_iv (n m, c)."""

    pull: Array
    directions: Array


class _Block(NamedTuple):
    samples: slice
    sample: Sample
    rows: Tensor  # (B, 1 + m, …): the loss's gradient c and directions b_a in the outputs


@dataclass(eq=False)
class DirectionKernel:
    """Ψ, whose n m rows are J_iᵀb_ia in scaled coordinates: v ↦ Ψv by `jvp`, α ↦ Ψᵀα by `vjp`, Ψv again, ….

    count m       directions a sample
    scales (p,)   None: 1
    seed          of directions that are drawn: the same at every product
    shard_rows    samples of one draw
    forward_mode  until `jvp` cannot go through the module; then Jv is the transpose of the transpose, two `vjp`

    Rows of the directions are held where they fit into `BLOCK_BYTES`, and found anew at every product where not.
    """

    model: FlatModule
    rows: Rows
    loss: OutputLoss
    count: int
    scales: Tensor | None
    seed: int
    shard_rows: int
    forward_mode: bool = True
    _held: list[_Block] = field(default_factory=list)

    @property
    def at_once(self) -> int:
        """Vectors of p numbers that fill `BLOCK_BYTES`, at least one."""
        return max(1, BLOCK_BYTES // (self.model.p * self.model.theta().element_size()))

    def sketched(self, sketch: Sketch) -> Iterator[Points]:
        """The rows c_iᵀJ_i, b_iaᵀJ_i of all samples through a sketch, shard by shard."""
        module = SketchedModule(self.model, [sketch], self.scales)
        for part, draws in self._shards():
            yield module.points(part, self.loss, self.count, probed=0, draws=draws)

    def along(self, vectors: Array) -> Along:
        """vectors (p, c) ↦ c_iᵀJ_iv and Ψv."""
        theta = self.model.theta()
        tangents = follow(torch.from_numpy(np.ascontiguousarray(vectors.T)), theta)
        tangents = tangents if self.scales is None else tangents * self.scales
        parts = [self._pushed(theta, block, tangents) for block in self._blocks(theta)]
        found = np.concatenate(parts)
        return Along(found[:, 0], found[:, 1:].reshape(-1, vectors.shape[1]))

    def combined(self, coefficients: Array) -> Array:
        """coefficients α (n m, c) ↦ Ψᵀα (p, c)."""
        theta = self.model.theta()
        own = torch.from_numpy(coefficients.reshape(self.rows.n, self.count, -1))
        total = theta.new_zeros(coefficients.shape[1], self.model.p)
        for block in self._blocks(theta):
            part = follow(own[block.samples], theta)
            cotangents = torch.einsum("bac,ba...->cb...", part, block.rows[:, 1:])
            total += self._pulled(theta, block.sample, cotangents)
        return as_numpy(total if self.scales is None else total * self.scales).T

    def gram_product(self, coefficients: Array) -> Array:
        """ΨΨᵀα (n m, q) of α (n m, q), `at_once` columns at a time."""
        columns = range(0, coefficients.shape[1], self.at_once)
        parts = [coefficients[:, first : first + self.at_once] for first in columns]
        return np.concatenate([self.along(self.combined(part)).directions for part in parts], axis=1)

    def _shards(self) -> Iterator[tuple[Rows, Generator]]:
        for place, first in enumerate(range(0, self.rows.n, self.shard_rows)):
            draws = Generator().manual_seed((self.seed + place) % 2**63)
            yield self.rows.part(slice(first, first + self.shard_rows)), draws

    def _blocks(self, theta: Tensor) -> Iterator[_Block]:
        """In the blocks of `SketchedModule.points`, whose directions these are."""
        if self._held:
            yield from self._held
            return
        at, found = 0, list[_Block]()
        for part, draws in self._shards():
            for sample in blocks(self.model, part, theta, 2 + self.count):
                args, named, targets = sample
                with torch.no_grad():
                    outputs = self.model(theta, args, named)
                curved = self.loss.curvature(outputs, targets, self.count, draws)
                rows = torch.cat([curved.gradient[:, None], curved.directions], 1).to(outputs.dtype)
                block = _Block(slice(at, at + len(targets)), sample, rows)
                at += len(targets)
                if rows.element_size() * rows[0].numel() * self.rows.n <= BLOCK_BYTES:
                    found.append(block)
                yield block
        self._held.extend(found)

    def _pushed(self, theta: Tensor, block: _Block, tangents: Tensor) -> Array:
        """(B, 1 + m, c)."""
        args, named, _ = block.sample
        at_once = self._together(len(block.rows))

        def outputs(at: Tensor) -> Tensor:
            return self.model(at, args, named)

        def read(along: Tensor) -> Tensor:
            return torch.einsum("ba...,b...->ba", block.rows, along)

        if self.forward_mode:
            try:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "`torch.jit.script` is")  # torch's own use, at its first jvp
                    found = vmap(lambda v: read(jvp(outputs, (theta,), (v,))[1]), chunk_size=at_once)(tangents)
                return as_numpy(found.movedim(0, -1))
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:
                self.forward_mode = False
        found_at = vjp(outputs, theta)
        values, pull = found_at[0], found_at[1]
        push = vjp(lambda cotangent: pull(cotangent)[0], torch.zeros_like(values))[1]  # Jᵀu is linear in u
        return as_numpy(self.model.over(lambda v: read(push(v)[0]), tangents, at_once=at_once).movedim(0, -1))

    def _pulled(self, theta: Tensor, sample: Sample, cotangents: Tensor) -> Tensor:
        """(c, p)."""
        args, named, targets = sample
        pull = vjp(lambda at: self.model(at, args, named), theta)[1]
        return self.model.over(lambda one: pull(one)[0], cotangents, at_once=self._together(len(targets)))

    def _together(self, samples: int) -> int:
        """Vectors that go through that many samples at one time."""
        return max(1, self.at_once // samples)
