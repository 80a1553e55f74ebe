"""Many trainings at once: one network on each of many subsets of its points, from the same start."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from numpy.typing import DTypeLike

from trak_theory.trajectory import MLP, SGD, Adam, AdamW
from trak_theory.trajectory import Optimizer as StepMaps
from trak_theory.trajectory.batches import shuffled_epochs


@dataclass(frozen=True)
class Optimizer:
    """Training recipe of networks: θ ← θ − η_t v, v ← m v + ∇(mean loss) + wd θ, or Adam on the same gradient.

    batch_size None: full batch; otherwise shuffled epochs. decoupled: AdamW, whose decay skips the preconditioner.
    """

    learning_rates: tuple[float, ...]
    weight_decay: float = 0.0
    momentum: float = 0.0
    batch_size: int | None = None
    adam: bool = False
    decoupled: bool = False

    @property
    def steps(self) -> StepMaps:
        """The step maps: a learning rate of 1 on the schedule of the rates."""
        decay, rates = self.weight_decay, self.learning_rates
        if self.adam:
            return (AdamW if self.decoupled else Adam)(1.0, weight_decay=decay, schedule=rates)
        return SGD(1.0, momentum=self.momentum, weight_decay=decay, schedule=rates)


@dataclass(frozen=True, eq=False)
class Trained:
    """theta (B, p): one row per training; second_moment: Adam's bias-corrected v (B, p) at the end, None otherwise."""

    theta: Array
    second_moment: Array | None


def train(
    network: MLP, start: Array, subsets: Array, optimizer: Optimizer, rng: Generator, *, dtype: DTypeLike = np.float32
) -> Trained:
    """Train from `start` (p,) on each subset, rows of indices (B, m), all at once."""
    steps, (count, m) = optimizer.steps, subsets.shape
    state = steps.start(np.repeat(start.astype(dtype)[None], count, axis=0))
    length = len(optimizer.learning_rates)
    places: Iterable[Array] = repeat(np.arange(m), length)
    if optimizer.batch_size is not None:  # the same places of every subset
        places = shuffled_epochs(m, size=optimizer.batch_size, steps=length, rng=rng)
    for t, chosen in enumerate(places):
        batch = subsets[:, chosen]
        weights = np.full(batch.shape, 1 / batch.shape[1], dtype)
        state = steps.at(t, state[0])(state, network.gradient(state[0], batch, weights))
    if not isinstance(steps, Adam):
        return Trained(state[0], None)
    return Trained(state[0], state[2] / (1 - steps.betas[1] ** length))
