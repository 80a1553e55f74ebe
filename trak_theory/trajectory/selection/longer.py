"""Random selection that trains for longer: what the compute of choosing buys when it is spent on steps instead."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.objective import Objective
from trak_theory.trajectory.optimizer.recipes import Optimizer
from trak_theory.trajectory.query import as_numpy
from trak_theory.trajectory.run import check_batches, check_start
from trak_theory.trajectory.selection.select import check_validation, kept_sizes
from trak_theory.trajectory.states.training_step import advance


def train_longer(
    objective: Objective,
    candidates: Sequence[Tensor],
    validation: Tensor,
    optimizer: Optimizer,
    *,
    start: Tensor,
    keep: float,
    ends: Sequence[int],
    rng: Generator,
) -> dict[int, tuple[Tensor, Tensor]]:
    """θ after each of `ends` steps on random shares of the candidates, and the θ of lowest validation loss till then.

    The T candidate batches come round again and again, each time with a fresh random share `keep`. The validation
    loss is looked at every T steps and at each end; it decides where to stop, as a practitioner would, and nothing
    else. The optimiser's schedule goes on: one that is a sequence must reach to the largest end.
    """
    checked = check_batches(candidates, objective.n)
    sizes = kept_sizes(checked, keep)
    samples = check_validation(validation, objective.n, checked)
    period, state = len(checked), optimizer.start(check_start(objective, start))
    lowest, best = np.inf, state[0]
    found: dict[int, tuple[Tensor, Tensor]] = {}
    for t in range(max(ends)):
        batch = random_share(checked[t % period], sizes[t % period], rng)
        state = advance(objective, batch, optimizer, t, state)
        if (t + 1) % period == 0 or t + 1 in ends:
            loss = float(as_numpy(objective.loss(state[0], samples)).mean())
            lowest, best = (loss, state[0]) if loss < lowest else (lowest, best)
        if t + 1 in ends:
            found[t + 1] = state[0], best
    return found


def random_share(batch: Array, size: int, rng: Generator) -> Array:
    """`size` samples of a batch, in its order."""
    return batch[np.sort(rng.choice(len(batch), size, replace=False))]
