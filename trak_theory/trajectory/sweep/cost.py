"""What a sweep will take, before it starts: memory by one formula, time by its last steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import ceil
from time import perf_counter, process_time

import numpy as np
from array_api_compat import device

from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.convention import Convention, Removal
from trak_theory.trajectory.optimizer.steps import State
from trak_theory.trajectory.query import Query, as_query
from trak_theory.trajectory.run import Run
from trak_theory.trajectory.states.checkpoints import Checkpoints
from trak_theory.trajectory.states.training_step import advance
from trak_theory.trajectory.sweep.blocks import SHARE
from trak_theory.trajectory.sweep.push import LINEAR, Estimator, frozen_steps
from trak_theory.trajectory.sweep.reverse import Curvature, Settings, pieces_of, sweep_from

TIMED = 4  # steps of the run that are swept to time all others
MIB = 2**20


@dataclass(frozen=True)
class RunSizes:
    """What the memory of a sweep depends on: of a run, or of one that is planned.

    p, steps T, batch |B|; slots of the optimiser (AdamW: 2); every: the spacing of checkpoints, 1 where every state is
    kept; on_disk: whether they are kept there; itemsize: bytes of a number; autograd: whether the objective has a
    `shared_pass`, as torch modules have
    """

    p: int
    steps: int
    batch: int
    slots: int = 2
    every: int = 1
    on_disk: bool = False
    itemsize: int = 4
    autograd: bool = True

    @classmethod
    def of(cls, run: Run) -> RunSizes:
        kept = run.states if isinstance(run.states, Checkpoints) else None
        return cls(
            p=run.objective.p,
            steps=run.steps,
            batch=max(len(np.unique(batch)) for batch in run.batches),
            slots=run.optimizer.slots,
            every=1 if kept is None else kept.every,
            on_disk=kept is not None and kept.on_disk,
            itemsize=run.final.dtype.itemsize,
            autograd=hasattr(run.objective, "shared_pass"),
        )

    @property
    def state(self) -> int:
        """Vectors of p in a state."""
        return 1 + self.slots

    @property
    def kept(self) -> int:
        """States in memory all the time."""
        return 1 if self.on_disk else ceil(self.steps / self.every) + 1

    @property
    def segment(self) -> int:
        """States that are read or replayed between two checkpoints."""
        return min(self.every, self.steps) - (not self.on_disk)

    def held(self, t: int, frozen: int) -> int:
        """States of the steps t + 1 … t + frozen that nothing but these steps holds."""
        first = t - t % self.every
        later = range(max(t + 1, first + self.every), min(t + frozen, self.steps - 1) + 1)
        return sum(self.on_disk or s % self.every > 0 for s in later)


def sweep_memory(sizes: RunSizes, queries: int, *, estimator: Estimator = "frozen-push") -> int:
    """Bytes that a sweep holds at its peak, with the states of its run: the largest over its steps of

        p · (s · (checkpoints + segment + held) + q(s + k) + k + work).

    s = 1 + slots; k: steps that the estimator freezes there (two-step 1, frozen-push 9 at the start of the run); held:
    their states in the next segment; work: g, and either a batch of per-sample gradients or ḡ and H ḡ of each query, in
    pieces that fit into CHUNK (first-order, sgd: ḡ, and either of the others; by autograd they need no per-sample
    gradients). What else a pass through the model takes, the model and the samples are not counted, nor what an
    allocator keeps of freed memory.

    >>> sweep_memory(RunSizes(p=10**7, steps=200, batch=32, every=15), 1, estimator="two-step") // 2**20
    3631
    """
    vector = sizes.p * sizes.itemsize
    samples, rows = pieces_of(vector)
    return round(vector * max(_vectors(sizes, t, queries, estimator, samples, rows) for t in range(sizes.steps)))


def _vectors(sizes: RunSizes, t: int, queries: int, estimator: Estimator, samples: int, rows: int) -> float:
    frozen = frozen_steps(estimator, t - 1, sizes.steps - t)
    states = sizes.kept + sizes.segment + sizes.held(t, frozen)
    gradients, slopes = min(sizes.batch, samples), min(queries, rows)
    if estimator in LINEAR:
        busy = slopes + max(slopes, 0 if sizes.autograd else gradients)
    else:
        busy = max(gradients, 2 * slopes)
    return sizes.state * (states + 1 / SHARE) + queries * (sizes.state + frozen) + frozen + 1 + busy


@dataclass(frozen=True)
class SweepCost:
    """training_runs: time in multiples of one training run, and in seconds; bytes: memory, see `sweep_memory`."""

    training_runs: float
    seconds: float
    bytes: int

    def __str__(self) -> str:
        return f"about {self.training_runs:.2g} training runs ({self.seconds:.2g} s), {ceil(self.bytes / MIB)} MiB"


def sweep_cost(
    run: Run,
    query: Tensor,
    *,
    estimator: Estimator = "frozen-push",
    removal: Removal = "keep",
    curvature: Curvature = "exact",
) -> SweepCost:
    """What `attribute` with the same arguments will take: time by the last steps of the run, memory by `sweep_memory`.

    A training run is T steps as a replay makes them, by the objective's mean gradient, without keeping states: on small
    torch modules about two plain loops. A sweep that replays states between checkpoints takes one more. The time of a
    frozen step is the difference of two estimators' and counts for each that frozen-push has at the start of the run.
    Sweeps the last four steps twice; processor time, or wall time where the states are on an accelerator. Raises
    ValueError for a run of one step.

    >>> from trak_theory.trajectory import MLP, SGD, loss_query, train
    >>> model = MLP(np.eye(3), [0, 1, 1], hidden=(2,))
    >>> run = train(model, model.start(np.random.default_rng(0)), [np.array([0, 1])] * 5, SGD(0.1))
    >>> sweep_cost(run, loss_query(model, [2])).bytes
    2247
    """
    if run.steps < 2:
        raise ValueError("a run of one step cannot be timed; `sweep_memory` tells the memory alone")
    columns, settings = as_query(query, run.final), Settings(estimator, curvature)
    sizes, near = RunSizes.of(run), _near_the_end(run)

    def seconds(estimator: Estimator) -> float:
        return _sweep_seconds(near, columns, replace(settings, estimator=estimator), Convention(removal))

    own, frozen = seconds(estimator), 0.0
    if estimator == "frozen-push":
        frozen = max(0.0, own - seconds("exact-push"))
    further = sum(frozen_steps(estimator, run.age(t), run.steps - 1 - t) - 1 for t in range(run.steps)) if frozen else 0
    training = run.steps * _training_seconds(near)
    total = (sizes.every > 1) * training + run.steps * own + further * frozen
    memory = sweep_memory(sizes, len(columns.slope(run.final)), estimator=estimator)
    return SweepCost(total / training, total, memory)


@dataclass(frozen=True, eq=False)
class _LastStates:
    """x_{T−TIMED} … x_T of a run, in memory."""

    states: dict[int, State]

    def get(self, t: int) -> State:
        return self.states[t]


def _near_the_end(run: Run) -> Run:
    return replace(run, states=_LastStates({t: run.states.get(t) for t in range(_first(run), run.steps + 1)}))


def _first(run: Run) -> int:
    return max(0, run.steps - TIMED)


def _sweep_seconds(near: Run, query: Query, settings: Settings, convention: Convention) -> float:
    """Of one step."""
    readouts = {t: [near.steps] for t in range(_first(near), near.steps)}
    return _between(lambda: sweep_from(near, query, settings, convention, readouts), near)


def _training_seconds(near: Run) -> float:
    """Of one step."""

    def steps() -> Iterator[object]:
        for t in range(_first(near), near.steps):
            yield advance(near.objective, near.batches[t], near.optimizer, t, near.states.get(t))

    return _between(steps, near)


def _between(steps: Callable[[], Iterator[object]], run: Run) -> float:
    """Seconds from one item to the next, the median of two passes."""
    clock = process_time if str(device(run.final)).startswith("cpu") else perf_counter
    passes = [[clock() for _ in steps()] for _ in range(2)]
    return float(np.median(np.diff(passes)))
