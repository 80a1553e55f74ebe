"""Data selection: of every candidate batch, train on the share that a policy puts first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.convention import Convention, one_of
from trak_theory.trajectory.objective import Objective
from trak_theory.trajectory.optimizer.recipes import Optimizer
from trak_theory.trajectory.optimizer.steps import State
from trak_theory.trajectory.query import Query, as_numpy, loss_query
from trak_theory.trajectory.run import Run, check_batches, check_start, train
from trak_theory.trajectory.selection.filtering import WrongShare, filtered
from trak_theory.trajectory.selection.lookahead import in_order, lookahead, refuse_twice
from trak_theory.trajectory.states.training_step import advance
from trak_theory.trajectory.sweep.push import Estimator
from trak_theory.trajectory.sweep.reverse import Settings, reverse_sweep

Policy = Literal["look-ahead", "offline", "random", "largest-loss", "lowest-loss", "loss-filter"]
Scores = Callable[[int, State], Array]  # t, x_t ↦ one number per candidate of step t; the lowest are kept

LOSS_COST, HVP_COST = 1 / 3, 2.0  # of one sample, in gradients: a forward pass; forward and backward with tangents


@dataclass(frozen=True, eq=False)
class Selection:
    """Selected batches, and the cost of choosing them.

    batches   the kept samples of every step
    final     θ_T
    cost      work in sample gradients, choosing and training together: a loss counts 1/3, a Hessian product 2
    """

    batches: tuple[Array, ...]
    final: Tensor
    cost: float
    start: Tensor = field(repr=False)
    objective: Objective = field(repr=False)
    optimizer: Optimizer = field(repr=False)

    @property
    def multiple(self) -> float:
        """The cost as a multiple of training on the kept samples without choosing them."""
        return self.cost / sum(len(batch) for batch in self.batches)

    @cached_property
    def run(self) -> Run:
        """The training run on the kept samples, replayed and recorded."""
        return train(self.objective, self.start, self.batches, self.optimizer)


def select(
    objective: Objective,
    candidates: Sequence[Tensor],
    validation: Tensor,
    optimizer: Optimizer,
    *,
    start: Tensor,
    keep: float,
    horizon: int | None = 0,
    policy: Policy = "look-ahead",
    estimator: Estimator = "first-order",
    wrong: float | None = None,
    rng: Generator | None = None,
) -> Selection:
    """Train from θ_0 = `start` on the share `keep` of each of the T candidate batches.

    candidates: T index arrays; validation: samples of the same objective, none of them a candidate. Kept are the
    round(keep · c) candidates that `policy` puts first (ties: earlier in the batch), as a batch of that size:

    look-ahead      the lowest I_K: keeping them lowers the mean validation loss K = `horizon` steps later most. The
                    future is the upcoming candidate batches in full, from the state reached by selecting so far; it
                    ends with the run, and horizon None is to the end. estimator "sgd": the geometry of plain SGD
    offline         the lowest influence on the end of the run on all candidates, one sweep before training begins
    random          a random share; needs `rng`
    largest-loss    the largest loss at θ_t
    lowest-loss     the lowest loss at θ_t
    loss-filter     a random share of those without the share `wrong` of largest losses at θ_t; None: that share is
                    estimated from the validation losses, see `WrongShare`; needs `rng`

    horizon belongs to look-ahead only, estimator to look-ahead and offline, wrong to the loss filter. keep = 1 trains
    on all candidates.
    """
    one_of("policy", policy, get_args(Policy))
    if wrong is not None and not 0 <= wrong < 1:
        raise ValueError(f"wrong is the share of candidates that are wrong, in [0, 1), got {wrong}; None estimates it")
    checked = check_batches(candidates, objective.n)
    sizes = kept_sizes(checked, keep)
    if policy == "look-ahead":
        check_horizon(horizon, len(checked))
    counted = Counted(objective)
    samples = check_validation(validation, objective.n, checked)
    loop = _Loop(counted, start, checked, samples, loss_query(counted, samples, mean=True), optimizer)
    scores: Scores | None = None
    kept, state = [], optimizer.start(check_start(objective, start))
    for t, (batch, size) in enumerate(zip(checked, sizes, strict=True)):
        if size < len(batch):
            scores = scores or _scores(loop, policy, horizon, estimator, wrong, rng)
            batch = lowest(batch, scores(t, state), size)
        kept.append(batch)
        state = advance(counted, batch, optimizer, t, state)
    return Selection(tuple(kept), state[0], counted.cost, start, objective, optimizer)


@dataclass(frozen=True, eq=False)
class _Loop:
    objective: Counted
    start: Tensor
    candidates: tuple[Array, ...]
    validation: Array
    query: Query
    optimizer: Optimizer


def _scores(
    loop: _Loop,
    policy: Policy,
    horizon: int | None,
    estimator: Estimator,
    wrong: float | None,
    rng: Generator | None,
) -> Scores:
    if policy in ("random", "loss-filter"):
        if rng is None:
            raise ValueError(f"{policy} selection draws samples: pass rng")
        return _loss_filter(loop, wrong, rng) if policy == "loss-filter" else _at_random(loop, rng)
    if policy == "offline":
        return _offline(loop, estimator)
    if policy == "look-ahead":
        return _look_ahead(loop, horizon, estimator)
    sign = -1.0 if policy == "largest-loss" else 1.0
    return lambda t, state: sign * as_numpy(loop.objective.loss(state[0], loop.candidates[t]))


def _at_random(loop: _Loop, rng: Generator) -> Scores:
    return lambda t, state: rng.random(len(loop.candidates[t]))


def _loss_filter(loop: _Loop, wrong: float | None, rng: Generator) -> Scores:
    estimate, validation = WrongShare(), loop.validation

    def scores(t: int, state: State) -> Array:
        losses = as_numpy(loop.objective.loss(state[0], loop.candidates[t]))
        share = wrong
        if share is None:
            share = estimate.update(losses, as_numpy(loop.objective.loss(state[0], validation)))
        return filtered(losses, share, rng.random(len(losses)))

    return scores


def _look_ahead(loop: _Loop, horizon: int | None, estimator: Estimator) -> Scores:
    def scores(t: int, state: State) -> Array:
        left = len(loop.candidates) - 1 - t
        reach = left if horizon is None else min(horizon, left)
        future = loop.candidates[t : t + 1 + reach]
        ahead = lookahead(
            loop.objective, future, loop.query, loop.optimizer, state, first=t, horizons=[reach], estimator=estimator
        )
        return ahead.influence[0]

    return scores


def _offline(loop: _Loop, estimator: Estimator) -> Scores:
    run = train(loop.objective, loop.start, loop.candidates, loop.optimizer)
    scores = [
        in_order(loop.candidates[part.step], part)[:, 0]
        for part in reverse_sweep(run, loop.query, Settings(estimator), Convention())
    ][::-1]
    return lambda t, state: scores[t]


class Counted:
    """The objective, with its work added up in `cost`, in gradients of one sample."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.batch_weights: Array | None = getattr(objective, "batch_weights", None)
        self.cost = 0.0

    @property
    def n(self) -> int:
        return self.objective.n

    @property
    def p(self) -> int:
        return self.objective.p

    def loss(self, theta: Tensor, batch: Array) -> Tensor:
        self._add(LOSS_COST, theta, batch)
        return self.objective.loss(theta, batch)

    def gradient(self, theta: Tensor, batch: Array, weights: Tensor) -> Tensor:
        self._add(1.0, theta, batch)
        return self.objective.gradient(theta, batch, weights)

    def sample_gradients(self, theta: Tensor, batch: Array) -> Tensor:
        self._add(1.0, theta, batch)
        return self.objective.sample_gradients(theta, batch)

    def hvp(self, theta: Tensor, batch: Array, weights: Tensor, directions: Tensor) -> Tensor:
        self._add(HVP_COST, directions, batch)
        return self.objective.hvp(theta, batch, weights, directions)

    def ggn(self, theta: Tensor, batch: Array, weights: Tensor, directions: Tensor) -> Tensor:
        self._add(HVP_COST, directions, batch)
        return self.objective.ggn(theta, batch, weights, directions)

    def _add(self, each: float, leading: Tensor, batch: Array) -> None:
        """`each` for every sample of the batch and every model or direction, the leading axes of `leading`."""
        self.cost += each * len(batch) * int(np.prod(tuple(leading.shape[:-1])))


def lowest(batch: Array, scores: Array, size: int) -> Array:
    """The `size` samples of a batch with the lowest scores, in the order of the batch."""
    return batch[np.sort(np.argsort(scores, kind="stable")[:size])]


def kept_sizes(candidates: Sequence[Array], keep: float) -> list[int]:
    """Number of samples kept of each candidate batch, round(keep · c)."""
    if not 0 < keep <= 1:
        raise ValueError(f"keep must lie in (0, 1], got {keep}: it is the share of each candidate batch to train on")
    sizes = [int(keep * len(batch) + 0.5) for batch in candidates]
    for t, (batch, size) in enumerate(zip(candidates, sizes, strict=True)):
        refuse_twice(batch, t)
        if size == 0:
            raise ValueError(
                f"candidate batch {t} has {len(batch)} samples, of which a share keep = {keep} is none: "
                "use larger candidate batches or keep more"
            )
    return sizes


def check_horizon(horizon: Tensor, steps: float = np.inf) -> int | None:
    """An integer in 0 … steps − 1, or None."""
    if horizon is None:
        return None
    if not isinstance(horizon, (int, np.integer)) or horizon < 0:
        raise ValueError(f"horizon must be an integer ≥ 0, or None for the end of the run, got {horizon!r}")
    if horizon >= steps:
        raise ValueError(
            f"horizon {horizon} reaches beyond the run: {steps} candidate batches allow at most {steps - 1}; "
            "None looks to the end"
        )
    return int(horizon)


def check_validation(validation: Tensor, n: int, candidates: Sequence[Array] = ()) -> Array:
    """Sample indices, not empty and none of them a candidate."""
    samples = np.asarray(validation)
    if samples.ndim != 1 or samples.size == 0 or samples.dtype.kind not in "iu":
        raise ValueError(
            f"validation must be a non-empty list of sample indices, got shape {samples.shape}, dtype {samples.dtype}"
        )
    if samples.min() < 0 or samples.max() >= n:
        wrong = samples[(samples < 0) | (samples >= n)][0]
        raise ValueError(f"validation names sample {wrong}, the objective has samples 0 … {n - 1}")
    shared = samples[np.isin(samples, np.concatenate([[], *candidates]))]
    if shared.size:
        raise ValueError(
            f"{shared.size} validation samples are candidates too, the first is {shared[0]}: a score would reward "
            "training on the validation set; split them"
        )
    return samples
