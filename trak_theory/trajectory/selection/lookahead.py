"""Look-ahead scores: what keeping a sample in the next batch does to the validation loss K steps later. Ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy import ndarray as Array

from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.convention import Convention, Removal
from trak_theory.trajectory.objective import Objective
from trak_theory.trajectory.optimizer.recipes import Optimizer
from trak_theory.trajectory.optimizer.steps import State
from trak_theory.trajectory.query import Query
from trak_theory.trajectory.run import Run, check_batches
from trak_theory.trajectory.states.training_step import mean_gradient, take_step
from trak_theory.trajectory.sweep.contribution import Contribution
from trak_theory.trajectory.sweep.push import Estimator
from trak_theory.trajectory.sweep.reverse import Curvature, Settings, sweep_from


@dataclass(frozen=True, eq=False)
class Segment(Run):
    """The steps first, first + 1, … of a longer run, with its gradients recorded; its state 0 is x_first."""

    first: int
    gradients: tuple[Tensor, ...] = field(repr=False)

    def age(self, t: int) -> int:
        return self.first + t

    def gradient(self, t: int) -> Tensor:
        return self.gradients[t]


@dataclass(frozen=True, eq=False)
class KeptStates:
    """States held in memory."""

    states: tuple[State, ...]

    def get(self, t: int) -> State:
        return self.states[t]


def segment(objective: Objective, batches: Sequence[Tensor], optimizer: Optimizer, state: State, first: int) -> Segment:
    """Train on `batches` as the steps first, first + 1, … from x_first = `state`."""
    checked = check_batches(batches, objective.n)
    states: list[State] = [state]
    gradients: list[Tensor] = []
    for t, batch in enumerate(checked, first):
        gradients.append(mean_gradient(objective, states[-1][0], batch))
        states.append(take_step(objective, batch, optimizer, t, states[-1], gradients[-1]))
    return Segment(objective, checked, optimizer, KeptStates(tuple(states)), first, tuple(gradients))


@dataclass(frozen=True, eq=False)
class Lookahead:
    """influence (h, c): I_K of each sample of the candidate batch, in its order, for each K of `horizons` (h,).

    Presence sign: negative lowers the query, so the samples to keep are those with the lowest values.
    """

    influence: Array
    horizons: tuple[int, ...]
    samples: Array
    segment: Segment = field(repr=False)


def lookahead(
    objective: Objective,
    batches: Sequence[Tensor],
    query: Query,
    optimizer: Optimizer,
    state: State,
    *,
    first: int = 0,
    horizons: Sequence[int] = (0,),
    estimator: Estimator = "first-order",
    removal: Removal = "keep",
    curvature: Curvature = "exact",
) -> Lookahead:
    """I_K(i) = f(θ_{t+1+K}) − f(θ_{t+1+K} without sample i at step t), t = first, for every i of the batch batches[0].

    The future is the upcoming batches as they are given, batches[1:]: full candidate batches, since which of their
    samples will be kept is not known yet. K = 0 reads off the end of step t itself (online), K = len(batches) − 1 the
    end of all batches (offline, if they reach to the end of the run). `state` is x_t = (θ_t, *slots); `query` has one
    value, such as `loss_query(objective, validation, mean=True)`.

    One pass forward to the largest K and one reverse sweep, in which every K has an adjoint of its own: K_max + 1
    gradients, Σ K Hessian-vector products and one set of per-sample gradients, whatever the number of samples.
    estimator: first-order, the derivative (exact up to rounding); two-step, exact through the moments' next step; sgd,
    the SGD formula whatever the optimiser was.
    """
    checked = _check_horizons(horizons, len(batches))
    batch = check_batches(batches[:1], objective.n)[0]
    refuse_twice(batch, first)
    settings, ends = Settings(estimator, curvature), sorted({1 + horizon for horizon in checked})
    ahead = segment(objective, batches[: ends[-1]], optimizer, state, first)
    (contribution,) = sweep_from(ahead, query, settings, Convention(removal), {0: ends})
    if contribution.influence.shape[1] != len(ends):
        width = contribution.influence.shape[1] // len(ends)
        raise ValueError(f"a look-ahead needs a query with one value, this one has {width}: use their mean")
    influence = in_order(batch, contribution).T
    return Lookahead(influence[[ends.index(1 + horizon) for horizon in checked]], checked, batch, ahead)


def in_order(batch: Array, contribution: Contribution) -> Array:
    """The contribution's influence (b, q), whose samples are sorted, in the order of a batch without repetitions."""
    return contribution.influence[np.searchsorted(contribution.samples, batch)]


def refuse_twice(batch: Array, t: int) -> None:
    samples, counts = np.unique(batch, return_counts=True)
    if counts.max() > 1:
        raise ValueError(f"the candidate batch of step {t} holds sample {samples[counts.argmax()]} twice; give it once")


def _check_horizons(horizons: Sequence[int], batches: int) -> tuple[int, ...]:
    for horizon in horizons:
        if not isinstance(horizon, (int, np.integer)) or horizon < 0:
            raise ValueError(f"a horizon must be an integer ≥ 0, got {horizon!r}")
        if horizon >= batches:
            raise ValueError(
                f"horizon {horizon} reaches beyond the run: {batches} batches from here on allow at most {batches - 1}"
            )
    if not horizons:
        raise ValueError("a look-ahead needs at least one horizon")
    return tuple(int(horizon) for horizon in horizons)
