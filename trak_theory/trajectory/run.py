"""A recorded training run: its batches, its optimiser and its states, stored or replayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from array_api_compat import array_namespace, is_array_api_obj
from numpy import ndarray as Array

from trak_theory.errors import UnsupportedError
from trak_theory.numerics.checks import positive_count
from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.objective import Objective
from trak_theory.trajectory.optimizer.recipes import Optimizer
from trak_theory.trajectory.optimizer.steps import State, StepMap
from trak_theory.trajectory.states.checkpoints import CastStates, Checkpoints, HeldStates, States
from trak_theory.trajectory.states.saved import read_run, write_run
from trak_theory.trajectory.states.training_step import fingerprint, mean_weights

if TYPE_CHECKING:
    import torch
    from numpy.typing import DTypeLike

KEEP_ALL_BELOW = 2**28  # bytes of states; beyond it √T checkpoints and replay are the default


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
        changed = [part for part, value in self.fingerprint.items() if now.get(part) != value]
        if changed:
            raise UnsupportedError(
                f"since the run was recorded, {' and '.join(changed)} of its objective have changed, and a sweep would "
                "differentiate another model than the one that was trained; restore them, or record the run again"
            )

    def occurrences(self, samples: Tensor) -> Array:
        """The steps (in order) whose batch holds some of `samples`."""
        every_sample, its_step = self._flat
        return np.unique(its_step[np.isin(every_sample, samples)])

    def save(self, folder: Path | str) -> None:
        """Write the run into a new or empty folder: states, batches and optimiser, but neither model nor data.

        States are .npy files (checkpoints only, where the run replays the others), the rest is JSON; nothing is
        pickled. A schedule is saved as its values at the steps of the run. Raises UnsupportedError for a folder that
        holds a run, for an optimiser of your own and for a segment of a run.

        >>> from tempfile import TemporaryDirectory
        >>> from trak_theory.trajectory import MLP, SGD
        >>> model = MLP(np.eye(3), [0, 1, 1], hidden=(2,))
        >>> run = train(model, np.zeros(model.p), [np.array([0, 1]), np.array([2])], SGD(0.1))
        >>> with TemporaryDirectory() as folder:
        ...     run.save(folder)
        ...     bool((Run.load(folder, model).final == run.final).all())
        True
        """
        if type(self) is not Run:
            raise UnsupportedError("a segment of a run cannot be saved; save the run that it belongs to")
        write_run(Path(folder), self.objective, self.batches, self.optimizer, self.states, self.fingerprint)

    @classmethod
    def load(cls, folder: Path | str, objective: Objective) -> Self:
        """The run that `save` wrote, with the objective that it was recorded with, made again by the same code.

        What is computed from it is what the saved run gives, to the last bit on the same machine. States stay in the
        folder and are read when they are needed. Raises UnsupportedError where a file is missing or damaged, where
        samples or frozen parameters differ from those recorded, and where the objective's losses at θ_0 and θ_T are
        not those of the run: another model, loss or order of samples.
        """
        stored = read_run(Path(folder), objective)
        run = cls(objective, stored.batches, stored.optimizer, stored.states, fingerprint=stored.fingerprint)
        run.check_unchanged()
        stored.check_losses(objective)
        return run

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


def astype(run: Run, dtype: DTypeLike | torch.dtype) -> Run:
    """The same run with its recorded states rounded to `dtype`: what is computed from it is in that precision."""
    return replace(run, states=CastStates(run.states, dtype))


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
