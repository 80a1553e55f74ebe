"""Gradients of a few samples, held in parts as a model gives them, and read in blocks."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from array_api_compat import array_namespace
from numpy import ndarray as Array

from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.objective import Objective
from trak_theory.trajectory.sweep.blocks import blocks

Part = tuple[slice, Tensor]  # coordinates from start to stop, and their columns (b, stop − start)


@dataclass(frozen=True, eq=False)
class SampleRows:
    """∇ℓ_i (b, p) in parts, in the order of the coordinates; `pieces` are the blocks that can be read."""

    parts: Sequence[Part]
    divided: bool = True

    @classmethod
    def of(cls, objective: Objective, theta: Tensor, samples: Array) -> SampleRows:
        in_parts = getattr(objective, "sample_gradient_parts", None)
        if in_parts is None:
            return cls.whole(objective.sample_gradients(theta, samples))
        return cls(list(_joined(in_parts(theta, samples))))

    @classmethod
    def whole(cls, rows: Tensor) -> SampleRows:
        return cls([(slice(0, rows.shape[1]), rows)])

    @property
    def count(self) -> int:
        return len(self.parts[0][1])

    @property
    def pieces(self) -> list[slice]:
        if not self.divided:
            return [place for place, _ in self.parts]
        cut = [(place.start, blocks(*rows.shape), rows.shape[1]) for place, rows in self.parts]
        return [slice(first + a, first + b) for first, own, p in cut for a, b, _ in (piece.indices(p) for piece in own)]

    def __getitem__(self, block: slice) -> Tensor:
        place, rows = self.parts[bisect_right(self.parts, block.start, key=lambda part: part[0].start) - 1]
        return rows[:, block.start - place.start : block.stop - place.start]

    def joined(self) -> SampleRows:
        """The same as one piece, for what is not elementwise."""
        return SampleRows([_one(self.parts)], divided=False)

    def inner(self, slope: Tensor) -> Tensor:
        """⟨∇ℓ_i, V⟩ (b, k) for V (k, p)."""
        return sum(rows @ slope[:, place].T for place, rows in self.parts)


def _joined(parts: Sequence[Part]) -> Iterator[Part]:
    """Neighbours that fit into one block as one part: few calls for many small parameters."""
    group: list[Part] = []
    for place, rows in parts:
        joined = slice(group[0][0].start if group else place.start, place.stop)
        if group and len(blocks(len(rows), joined.stop - joined.start)) > 1:
            yield _one(group)
            group = []
        group.append((place, rows))
    yield _one(group)


def _one(group: Sequence[Part]) -> Part:
    rows = [rows for _, rows in group]
    joined = rows[0] if len(rows) == 1 else array_namespace(rows[0]).concat(rows, axis=1)
    return slice(group[0][0].start, group[-1][0].stop), joined
