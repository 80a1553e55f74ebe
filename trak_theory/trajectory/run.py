"""A recorded training run: its batches, its optimiser and its states, stored or replayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isqrt
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Protocol

import numpy as np
from array_api_compat import array_namespace, device, is_array_api_obj, to_device
from numpy import ndarray as Array

from trak_theory.errors import UnsupportedError
from trak_theory.numerics.checks import positive_count
from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.objective import Objective
from trak_theory.trajectory.optimizer.recipes import Optimizer
from trak_theory.trajectory.optimizer.steps import State, StepMap

if TYPE_CHECKING:
    import torch
    from numpy.typing import DTypeLike

KEEP_ALL_BELOW = 2**28  # bytes of states; beyond it √T checkpoints and replay are the default


class States(Protocol):
    """The states x_0 … x_T of a run."""

    def get(self, t: int) -> State: ...


@dataclass(frozen=True, eq=False)
class Run:
    """θ_0 → θ_T: x_{t+1} = F_t(x_t, g_t) with g_t = Σ_{i∈B_t} a_i ∇ℓ_i(θ_t)/Σ_{i∈B_t} a_i, a the batch weights or 1.

    objective; batches, T index arrays; optimizer; states. `final` is θ_T (p,), `state(t)` is x_t = (θ_t, *slots).
    fingerprint   of what the objective holds fixed, taken when the run was recorded (None: not known)
    """

    objective: Objective
    batches: tuple[Array, ...]
    optimizer: Optimizer
    states: States
    fingerprint: Mapping[str, str] | None = field(default=None, kw_only=True, repr=False)

    @property
    def steps(self) -> int:
        return len(self.batches)

    @property
    def final(self) -> Tensor:
        return self.states.get(self.steps)[0]

    def state(self, t: int) -> State:
        return self.states.get(t)[: 1 + self.optimizer.slots]

    def age(self, t: int) -> int:
        """Number of steps that the optimiser had taken before step t."""
        return t

    def step(self, t: int) -> StepMap:
        """The map F_t."""
        return self.optimizer.at(self.age(t), self.final)

    def weights(self, t: int) -> Tensor:
        """a_i/Σ_{j∈B_t} a_j for each sample of the batch, (B,)."""
        return mean_weights(self.objective, self.final, self.batches[t])

    def gradient(self, t: int) -> Tensor:
        """g_t (p,)."""
        return self.objective.gradient(self.state(t)[0], self.batches[t], self.weights(t))

    def check_unchanged(self) -> None:
        """Refuse an objective whose samples or frozen parameters are not those that the run was recorded with."""
        now = fingerprint(self.objective)
        if self.fingerprint is None or now is None:
            return
        changed = [part for part, value in self.fingerprint.items() if now[part] != value]
        if changed:
            raise UnsupportedError(
                f"since the run was recorded, {' and '.join(changed)} of its objective have changed, and a sweep would "
                "differentiate another model than the one that was trained; restore them, or record the run again"
            )

    def occurrences(self, samples: Tensor) -> Array:
        """The steps (in order) whose batch holds some of `samples`."""
        every_sample, its_step = self._flat
        return np.unique(its_step[np.isin(every_sample, samples)])

    @cached_property
    def _flat(self) -> tuple[Array, Array]:
        sizes = [len(batch) for batch in self.batches]
        return np.concatenate(self.batches), np.repeat(np.arange(self.steps), sizes)


def train(
    objective: Objective,
    theta0: Tensor,
    batches: Sequence[Tensor],
    optimizer: Optimizer,
    *,
    every: int | None = None,
    directory: Path | str | None = None,
) -> Run:
    """Run the optimiser over the batches from θ_0 and record every state, or every `every`-th one.

    States between checkpoints are replayed bit by bit when they are asked for. `every` defaults to 1 while all
    states take at most 256 MiB, else to √T. `directory` keeps the checkpoints on disk, in a new folder for every run.

    >>> from trak_theory.trajectory import MLP, SGD
    >>> model = MLP(np.eye(3), [0, 1, 1], hidden=(2,))
    >>> run = train(model, np.zeros(model.p), [np.array([0, 1]), np.array([2])], SGD(0.1))
    >>> run.steps, run.final.shape
    (2, (14,))
    """
    theta = check_start(objective, theta0)
    checked = check_batches(batches, objective.n)
    if every is None:
        size = (1 + optimizer.slots) * theta.shape[0] * np.dtype(str(theta.dtype).rpartition(".")[2]).itemsize
        every = 1 if size * len(checked) <= KEEP_ALL_BELOW else isqrt(len(checked) - 1) + 1
    states = Checkpoints(objective, checked, optimizer, positive_count("every", every), directory)
    states.record(optimizer.start(theta))
    return Run(objective, checked, optimizer, states, fingerprint=fingerprint(objective))


def advance(objective: Objective, batch: Array, optimizer: Optimizer, t: int, state: State) -> State:
    """One step of training; raises with the step where the loss or its gradient stops being finite."""
    return take_step(objective, batch, optimizer, t, state, mean_gradient(objective, state[0], batch))


def take_step(
    objective: Objective, batch: Array, optimizer: Optimizer, t: int, state: State, gradient: Tensor
) -> State:
    """`advance` with the batch gradient at hand."""
    theta = state[0]
    after = optimizer.at(t, theta)(state, gradient)
    xp = array_namespace(theta)
    if not bool(xp.all(xp.isfinite(after[0]))):
        loss = float(xp.mean(objective.loss(theta, batch).real))
        largest = float(xp.max(xp.abs(gradient)))
        raise FloatingPointError(
            f"step {t}: θ is not finite after the update; the batch loss is {loss:.6g}, the largest |g| {largest:.3g}; "
            "lower the learning rate, clip the gradient or check the data"
        )
    return after


def mean_gradient(objective: Objective, theta: Tensor, batch: Array) -> Tensor:
    """Σ_{i∈B} a_i ∇ℓ_i(θ)/Σ_{i∈B} a_i (p,)."""
    return objective.gradient(theta, batch, mean_weights(objective, theta, batch))


def mean_weights(objective: Objective, theta: Tensor, batch: Array) -> Tensor:
    """a_i/Σ_{j∈B} a_j (B,) in θ's namespace and dtype."""
    weights = batch_weights(objective, batch)
    return array_namespace(theta).asarray(weights / weights.sum(), dtype=theta.real.dtype, device=device(theta))


def batch_weights(objective: Objective, batch: Array) -> Array:
    """a_i (B,) of the batch mean Σ a_i ℓ_i/Σ a_i: the objective's `batch_weights`, or ones."""
    weights = getattr(objective, "batch_weights", None)
    return np.ones(len(batch)) if weights is None else weights[batch]


def fingerprint(objective: Objective) -> Mapping[str, str] | None:
    """Digests of what the objective holds fixed during training, if it tells."""
    taken = getattr(objective, "fingerprint", None)
    return None if taken is None else taken()


class Checkpoints:
    """Every `every`-th state of a run and the last one; the segment in use is replayed and kept.

    A replay must end at the next state kept, up to the rounding of its dtype; else it raises UnsupportedError.
    """

    def __init__(
        self,
        objective: Objective,
        batches: Sequence[Array],
        optimizer: Optimizer,
        every: int,
        directory: Path | str | None = None,
    ) -> None:
        self.every = every
        self._model = (objective, batches, optimizer)
        self._saved: dict[int, State] = {}
        self._folder = None if directory is None else _own_folder(Path(directory))
        self._segment: tuple[int, list[State]] = (-1, [])

    def record(self, state: State) -> None:
        for t in range(len(self._model[1])):
            self.keep(t, state)
            state = self._advance(t, state)
        self._last = state

    def keep(self, t: int, state: State) -> None:
        """x_t, in the order of t; the last one given is x_T."""
        if t % self.every == 0:
            self._save(t, state)
        self._last = state

    def get(self, t: int) -> State:
        steps = len(self._model[1])
        if not 0 <= t <= steps:
            raise IndexError(f"state {t} was asked for, the run has states 0 … {steps}")
        if t == steps:
            return self._last
        first = t - t % self.every
        if first != self._segment[0]:
            self._segment = (-1, [])  # free the old segment before the new one grows
            self._segment = (first, self._replay(first, min(first + self.every, steps)))
        return self._segment[1][t - first]

    def _replay(self, first: int, end: int) -> list[State]:
        """x_first … x_{end−1}."""
        states = [self._load(first)]
        for s in range(first, end - 1):
            states.append(self._advance(s, states[-1]))
        if self.every > 1:
            kept = self._last if end == len(self._model[1]) else self._load(end)
            _check_replay(first, end, states[0][0], self._advance(end - 1, states[-1])[0], kept[0])
        return states

    def _advance(self, t: int, state: State) -> State:
        objective, batches, optimizer = self._model
        return advance(objective, batches[t], optimizer, t, state)

    def _save(self, t: int, state: State) -> None:
        if self._folder is None:
            self._saved[t] = state
            return
        np.save(self._file(t), np.stack([np.asarray(to_device(part, "cpu")) for part in state]))

    def _load(self, t: int) -> State:
        if self._folder is None:
            return self._saved[t]
        like = self._last[0]
        parts = np.load(self._file(t))
        return tuple(array_namespace(like).asarray(part, device=device(like)) for part in parts)

    def _file(self, t: int) -> Path:
        assert self._folder is not None
        return self._folder / f"state-{t:07d}.npy"


def _own_folder(directory: Path) -> Path:
    """A folder of this run alone, so that runs which share a directory do not overwrite each other."""
    directory.mkdir(parents=True, exist_ok=True)
    return Path(mkdtemp(prefix="run-", dir=directory))


def _check_replay(first: int, end: int, start: Tensor, replayed: Tensor, kept: Tensor) -> None:
    xp = array_namespace(kept)
    eps = float(xp.finfo(kept.dtype).eps)
    length, off, size = (float(xp.linalg.vector_norm(part)) for part in (kept - start, replayed - kept, kept))
    if not off <= eps**0.25 * length + 10 * eps * size:
        raise UnsupportedError(
            f"replaying steps {first} … {end - 1} ends {off:.2g} away from the checkpoint kept at step {end}, on a "
            f"path of {length:.2g}: the training does not repeat itself (something random, or samples that "
            "changed). Make it deterministic, or keep every state (every=1)"
        )


@dataclass(frozen=True, eq=False)
class CastStates:
    """States rounded to another precision."""

    states: States
    dtype: DTypeLike | torch.dtype

    def get(self, t: int) -> State:
        return tuple(array_namespace(part).astype(part, self.dtype) for part in self.states.get(t))


def astype(run: Run, dtype: DTypeLike | torch.dtype) -> Run:
    """The same run with its recorded states rounded to `dtype`: what is computed from it is in that precision."""
    return replace(run, states=CastStates(run.states, dtype))


@dataclass(frozen=True, eq=False)
class HeldStates:
    """Only every `every`-th state and the last; in between, the last one kept."""

    states: States
    every: int
    steps: int

    def get(self, t: int) -> State:
        return self.states.get(t if t == self.steps else t - t % self.every)


def held(run: Run, every: int) -> Run:
    """The same run seen through coarse checkpoints without replay: x_t is the last of every `every`-th state."""
    return replace(run, states=HeldStates(run.states, every, run.steps))


def as_sgd(run: Run) -> Run:
    """The same path θ_0 … θ_T read as plain SGD's, θ' = θ − η_t g: the SGD formula's wrong configuration."""
    return replace(run, optimizer=run.optimizer.plain())


def check_batches(batches: Sequence[Tensor], n: int) -> tuple[Array, ...]:
    """The batches as integer arrays; refuses empty ones and samples that do not exist."""
    checked = []
    for t, batch in enumerate(batches):
        array = np.asarray(batch)
        if array.ndim != 1 or array.size == 0:
            raise ValueError(f"batch {t} must be a non-empty list of sample indices, got shape {array.shape}")
        if array.dtype.kind not in "iu":
            raise TypeError(f"batch {t} must hold integer sample indices, got dtype {array.dtype}")
        wrong = array[(array < 0) | (array >= n)]
        if wrong.size:
            raise ValueError(f"batch {t} names sample {wrong[0]}, the objective has samples 0 … {n - 1}")
        checked.append(array)
    if not checked:
        raise ValueError("a run needs at least one batch")
    return tuple(checked)


def check_start(objective: Objective, theta0: Tensor) -> Tensor:
    """A copy of θ_0 (p,) in floating point; refuses another shape and non-finite entries."""
    theta = theta0 if is_array_api_obj(theta0) else np.asarray(theta0)
    if tuple(theta.shape) != (objective.p,):
        raise ValueError(f"theta0 has shape {tuple(theta.shape)}, the objective has p = {objective.p} parameters")
    xp = array_namespace(theta)
    if not xp.isdtype(theta.dtype, ("real floating", "complex floating")):
        theta = xp.astype(theta, xp.float64)
    if not bool(xp.all(xp.isfinite(theta))):
        raise ValueError("theta0 has non-finite entries (NaN or inf)")
    return xp.asarray(theta, copy=True)
