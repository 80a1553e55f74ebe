"""Random projections applied to gradient rows as they come, so that neither n×p nor p×k numbers are ever held."""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from numpy import ndarray as Array
from numpy.random import Generator, default_rng
from torch import Tensor

from trak_theory.numerics.checks import positive_count
from trak_theory.torch_bridge.module import follow

BLOCK = 4096  # coordinates whose part of the projection exists at one time
SCATTERED = 2**22  # coordinates whose columns exist as long integers at one time


class Sketch(Protocol):
    """rows (…, p) ↦ rows P (…, k), the same P (p, k) at every call, with E PPᵀ = I."""

    def __call__(self, rows: Tensor) -> Tensor: ...


class NormalSketch:
    """P with entries N(0, 1/k), drawn anew block by block from one seed: the projection of the projection law.

    Cost: p·k random numbers for every block of rows.
    """

    def __init__(self, k: int, *, rng: Generator) -> None:
        self.k = positive_count("k", k)
        self.seed = int(rng.integers(2**62))

    def __call__(self, rows: Tensor) -> Tensor:
        p = rows.shape[-1]
        total = rows.new_zeros(*rows.shape[:-1], self.k)
        for first in range(0, p, BLOCK):
            part = rows[..., first : first + BLOCK]
            entries = default_rng([self.seed, first]).standard_normal((part.shape[-1], self.k)) / np.sqrt(self.k)
            total = total + part @ follow(torch.from_numpy(entries), rows)
        return total


class CountSketch:
    """Every coordinate goes, with a random sign, to one random column in each of `entries` groups of k/entries.

    P has entries ±1/√s, s = `entries`, in every row; p·s additions for each row, four bytes of memory each. The law of
    scores is that of signs, near the normal one where gradients spread over many parameters: more than k/(9s) of them.
    """

    def __init__(self, p: int, k: int, *, entries: int = 1, rng: Generator) -> None:
        self.k, self.entries = positive_count("k", k), positive_count("entries", entries)
        if entries > k:
            raise ValueError(f"entries = {entries} exceed k = {k}: each needs a group of columns of its own")
        edges = np.linspace(0, k, entries + 1).astype(int)
        self.places = [
            torch.from_numpy(_signed(rng.integers(low, high, size=positive_count("p", p)), k, rng))
            for low, high in pairwise(edges)
        ]

    def __call__(self, rows: Tensor) -> Tensor:
        total = rows.new_zeros(*rows.shape[:-1], 2 * self.k)
        for places in self.places:
            for first in range(0, rows.shape[-1], SCATTERED):
                block = slice(first, first + SCATTERED)
                total = total.index_add(-1, places[block].long().to(rows.device), rows[..., block])
        return (total[..., : self.k] - total[..., self.k :]) / self.entries**0.5


def _signed(columns: Array, k: int, rng: Generator) -> Array:
    """Columns c, or c + k where the sign is −1."""
    signs = rng.choice(np.array([-1.0, 1.0]), size=columns.size)
    return (columns + k * (signs < 0)).astype(np.int32)
