"""Random projections applied to gradient rows as they come, so that neither n×p nor p×k numbers are ever held."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.random import Generator, default_rng
from torch import Tensor

from trak_theory.numerics.checks import positive_count
from trak_theory.torch_bridge.module import follow

BLOCK = 4096  # coordinates whose part of the projection exists at one time


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
            total += part @ follow(torch.from_numpy(entries), rows)
        return total


class CountSketch:
    """Every coordinate goes, with a random sign, to one random column of k: p additions for each row.

    One entry ±1 in each row of P. The law of scores is that of signs, near the normal one where gradients spread over
    many parameters.
    """

    def __init__(self, p: int, k: int, *, rng: Generator) -> None:
        self.k = positive_count("k", k)
        self.column = torch.from_numpy(rng.integers(k, size=positive_count("p", p)))
        self.sign = torch.from_numpy(rng.choice(np.array([-1.0, 1.0]), size=p))

    def __call__(self, rows: Tensor) -> Tensor:
        empty = rows.new_zeros(*rows.shape[:-1], self.k)
        return empty.index_add_(-1, self.column.to(rows.device), rows * follow(self.sign, rows))
