"""The states of a run: every one or some, in memory or on disk, the others replayed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from array_api_compat import array_namespace, device, to_device
from numpy import ndarray as Array
from numpy.lib.format import dtype_to_descr, write_array_header_1_0

from trak_theory.errors import UnsupportedError
from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.objective import Objective
from trak_theory.trajectory.optimizer.recipes import Optimizer
from trak_theory.trajectory.optimizer.steps import State
from trak_theory.trajectory.states.training_step import advance

if TYPE_CHECKING:
    import torch
    from numpy.typing import DTypeLike


class States(Protocol):
    """The states x_0 … x_T of a run."""

    def get(self, t: int) -> State: ...


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

    @classmethod
    def reopened(
        cls,
        objective: Objective,
        batches: Sequence[Array],
        optimizer: Optimizer,
        every: int,
        folder: Path,
        like: Tensor,
    ) -> Self:
        """The checkpoints that stand in a folder, as arrays like `like`."""
        states = cls(objective, batches, optimizer, every)
        states._folder, states._last = folder, read_state(folder, len(batches), like)
        return states

    @property
    def on_disk(self) -> bool:
        return self._folder is not None

    @property
    def optimizer(self) -> Optimizer:
        """What the states between checkpoints are replayed with."""
        return self._model[2]

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
        states = [self.checkpoint(first)]
        for s in range(first, end - 1):
            states.append(self._advance(s, states[-1]))
        if self.every > 1:
            replayed = self._advance(end - 1, states[-1])[0]
            _check_replay(first, end, states[0][0], replayed, self.checkpoint(end)[0])
        return states

    def _advance(self, t: int, state: State) -> State:
        objective, batches, optimizer = self._model
        return advance(objective, batches[t], optimizer, t, state)

    def _save(self, t: int, state: State) -> None:
        if self._folder is None:
            self._saved[t] = state
            return
        write_state(self._folder, t, state)

    def checkpoint(self, t: int) -> State:
        """x_t as it was kept, without a replay."""
        if t == len(self._model[1]):
            return self._last
        return self._saved[t] if self._folder is None else read_state(self._folder, t, self._last[0])


def state_file(folder: Path, t: int) -> Path:
    return folder / f"state-{t:07d}.npy"


def write_state(folder: Path, t: int, state: State) -> None:
    """x_t as one array (1 + slots, p), without a copy that holds them all."""
    parts = [np.ascontiguousarray(to_device(part, "cpu")) for part in state]
    header = {"descr": dtype_to_descr(parts[0].dtype), "fortran_order": False, "shape": (len(parts), *parts[0].shape)}
    with state_file(folder, t).open("wb") as file:
        write_array_header_1_0(file, header)
        for part in parts:
            part.tofile(file)


def read_state(folder: Path, t: int, like: Tensor) -> State:
    """x_t in the namespace and on the device of `like`, each part in memory of its own."""
    xp = array_namespace(like)
    parts = np.load(state_file(folder, t), mmap_mode="c")
    return tuple(xp.asarray(np.asarray(part), copy=True, device=device(like)) for part in parts)


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


@dataclass(frozen=True, eq=False)
class HeldStates:
    """Only every `every`-th state and the last; in between, the last one kept."""

    states: States
    every: int
    steps: int

    def get(self, t: int) -> State:
        return self.states.get(t if t == self.steps else t - t % self.every)
