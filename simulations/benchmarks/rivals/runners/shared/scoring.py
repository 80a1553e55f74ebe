"""Scores of a network that can be linearised, for this project's runners; presence sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from trak_theory import Linearization, influence, trak
from trak_theory.attribution import trak_kernel
from trak_theory.retraining import block_twin
from trak_theory.retraining.restored import restored_block_influence, restored_influence
from trak_theory.retraining.ridge_rule import TrainingRecipe, ridge_rule

Block = tuple[Array, Array, Array, Array]  # logit Jacobians (n, C, p), π (n, C), labels (n,), query gradients (q, p)


@dataclass(frozen=True)
class Training:
    """Training of the network in the coordinates of its linearisation, and the truth's share of the points."""

    recipe: TrainingRecipe | float
    fraction: float


class Linearizable(Protocol):
    """A trained network with its data, in the coordinates in which training pulls all parameters with one ridge."""

    def training(self) -> Training: ...

    def margins(self) -> Linearization: ...

    def block(self) -> Block: ...

    def projected(self, k: int, batch: int, rng: Generator) -> Linearization:
        """The margins through one normal projection to k dimensions, in its own coordinates, as it is streamed."""
        ...


def scores(
    network: Linearizable, *, method: str, k: int = 0, seed: int = 0, batch: int = 0, subsets: Array | None = None
) -> dict[str, Array]:
    """method: restored, block, trak (μ = 0, single precision, in batches), or trak at the rule; twin of `subsets`."""
    if subsets is not None:
        known, rng = network.training(), np.random.default_rng(seed)
        return {"outputs": block_twin(*network.block(), known.recipe, rank=k, rng=rng).refit(subsets)}
    return {"scores": _scores(network, method, k, batch, np.random.default_rng(seed))}


def _scores(network: Linearizable, method: str, k: int, batch: int, rng: Generator) -> Array:
    if method == "trak":
        return influence(trak_kernel(network.projected(k, batch, rng)))
    known = network.training()
    if method == "block":
        return restored_block_influence(*network.block(), known.recipe, fraction=known.fraction)
    lin = network.margins()
    if method == "restored":
        return restored_influence(lin, known.recipe, fraction=known.fraction)
    ridge = ridge_rule(lin, known.recipe, fraction=known.fraction, k=k).projected or 0.0
    return trak(lin, k=k, ridge=ridge, rng=rng)
