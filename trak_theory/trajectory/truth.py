"""The truth: the same run repeated without some samples, same initialisation, same batches, same order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
from array_api_compat import array_namespace, device, to_device
from numpy import ndarray as Array
from numpy.typing import ArrayLike

from trak_theory.numerics.agreement import Agreement, agreement
from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.attributions import Attribution
from trak_theory.trajectory.convention import Convention, Occurrences, Removal
from trak_theory.trajectory.optimizer.steps import State
from trak_theory.trajectory.query import as_numpy, as_query
from trak_theory.trajectory.run import Run
from trak_theory.trajectory.states.training_step import batch_weights

MODELS_AT_ONCE = 64
STATE_BYTES = 2**26  # of one part of the state of all models trained at once


@dataclass(frozen=True, eq=False)
class Truth:
    """θ_T of the run without each group of samples.

    final (g, p)     one row per group; with occurrences="each" one row per (step, group), in that order
    groups           the samples that each row removes
    steps            the step that each row removes them from, None for occurrences="all"
    convention       removal and occurrences, which an estimate must share to be compared
    """

    final: Tensor
    groups: tuple[Array, ...]
    steps: Array | None
    convention: Convention
    run: Run = field(repr=False)

    def influence(self, query: Tensor) -> Array:
        """f(θ_T) − f(θ_T without the group), (g, q): the presence sign."""
        query = as_query(query, self.run.final)
        return query.read(self.run.final) - np.stack([query.read(theta) for theta in self.final])

    def matching(self, attribution: Attribution) -> Array:
        """The rows (g, q) of an attribution that this truth speaks of: the sum over each group's samples.

        Raises ValueError where the conventions differ.
        """
        if attribution.convention != self.convention:
            raise ValueError(
                f"the truth was retrained under {self.convention}, the estimate made under "
                f"{attribution.convention}: the two differ by tens of per cent for small batches; recompute one of them"
            )
        if self.steps is None or attribution.steps is None:
            return np.stack([attribution.influence[group].sum(0) for group in self.groups])
        row = {key: k for k, key in enumerate(zip(attribution.steps, attribution.samples, strict=True))}
        chosen = [[row[t, i] for i in group if (t, i) in row] for t, group in zip(self.steps, self.groups, strict=True)]
        return np.stack([attribution.influence[rows].sum(0) for rows in chosen])

    def agreement(self, attribution: Attribution) -> Agreement:
        """Agreement of an attribution with this truth, on the attribution's own query."""
        return agreement(self.influence(attribution.query), self.matching(attribution))


@dataclass(frozen=True, eq=False)
class _Job:
    """One retraining: the samples left out, and the steps it differs at, the first of them the start."""

    samples: Array
    steps: Array


def retrain_without(
    run: Run,
    groups: Iterable[ArrayLike],
    *,
    removal: Removal = "keep",
    occurrences: Occurrences = "all",
    cache: Path | str | None = None,
) -> Truth:
    """Repeat the run without each group of samples, from the stored state at the group's first occurrence.

    Retrainings go in blocks with a leading model axis. `cache` is a folder in which every finished retraining is
    kept under a hash of the run, the convention and the group, so that an interrupted call resumes.

    >>> from trak_theory.trajectory import MLP, SGD, loss_query, train
    >>> model = MLP(np.eye(3), [0, 1, 1], hidden=(2,))
    >>> run = train(model, model.start(np.random.default_rng(0)), [np.array([0, 1]), np.array([0, 1])], SGD(0.1))
    >>> retrain_without(run, [[0], [2]]).influence(loss_query(model, [2])).round(6)[1]  # in no batch
    array([0.])
    """
    convention = Convention(removal, occurrences)
    run.check_unchanged()
    checked = [_check_group(run, group) for group in groups]
    jobs = [_Job(group, run.occurrences(group)) for group in checked]
    steps = None
    if occurrences == "each":
        jobs = [_Job(job.samples, np.array([t])) for job in jobs for t in job.steps]
        jobs.sort(key=lambda job: int(job.steps[0]))
        steps = np.array([job.steps[0] for job in jobs])
    if removal == "renormalise":
        for job in jobs:
            _refuse_empty(run, job, convention)
    final = _finals(run, jobs, convention, None if cache is None else _Cache(run, convention, Path(cache)))
    return Truth(final, tuple(job.samples for job in jobs), steps, convention, run)


def _finals(run: Run, jobs: list[_Job], convention: Convention, cache: _Cache | None) -> Tensor:
    theta = run.final
    found: dict[int, Tensor] = {k: theta for k, job in enumerate(jobs) if job.steps.size == 0}
    if cache is not None:
        found |= {k: kept for k, job in enumerate(jobs) if k not in found and (kept := cache.get(job)) is not None}
    order = sorted(set(range(len(jobs))) - set(found), key=lambda k: int(jobs[k].steps[0]))
    size = max(1, min(MODELS_AT_ONCE, STATE_BYTES // (theta.shape[0] * theta.dtype.itemsize)))
    for first in range(0, len(order), size):
        block = order[first : first + size]
        for k, row in zip(block, _retrain(run, [jobs[k] for k in block], convention), strict=True):
            found[k] = row
            if cache is not None:
                cache.put(jobs[k], row)
    xp = array_namespace(theta)
    return xp.stack([found[k] for k in range(len(jobs))]) if jobs else xp.zeros((0, theta.shape[0]))


def _retrain(run: Run, jobs: list[_Job], convention: Convention) -> Tensor:
    """θ_T (m, p) of jobs sorted by their first step; each joins the block at that step."""
    xp = array_namespace(run.final)
    starts = np.array([job.steps[0] for job in jobs])
    left_out = np.zeros((len(jobs), run.objective.n), bool)
    for row, job in zip(left_out, jobs, strict=True):
        row[job.samples] = True
    at_step = np.zeros((len(jobs), run.steps), bool)
    for row, job in zip(at_step, jobs, strict=True):
        row[job.steps] = True
    state: State | None = None
    for t in range(starts[0], run.steps):
        joining = int(np.sum(starts == t))
        if joining:
            fresh = tuple(xp.broadcast_to(part, (joining, part.shape[0])) for part in run.state(t))
            state = fresh if state is None else tuple(map(_join, state, fresh))
        assert state is not None
        m = state[0].shape[0]
        kept = ~(left_out[:m][:, run.batches[t]] & at_step[:m, t, None])
        kept = xp.asarray(kept, dtype=run.final.real.dtype, device=device(run.final))
        weights = xp.asarray(batch_weights(run.objective, run.batches[t]), dtype=kept.dtype, device=device(kept))
        gradient = run.objective.gradient(state[0], run.batches[t], convention.weights(kept, weights))
        state = run.step(t)(state, gradient)
    assert state is not None
    finite = as_numpy(xp.all(xp.isfinite(state[0]), axis=-1)) > 0
    if not finite.all():
        raise FloatingPointError(
            f"{(~finite).sum()} of {len(jobs)} retrainings did not stay finite, first: without samples "
            f"{jobs[int(np.argmin(finite))].samples[:5].tolist()}; lower the learning rate or clip the gradient"
        )
    return state[0]


def _join(a: Tensor, b: Tensor) -> Tensor:
    return array_namespace(a).concat([a, b], axis=0)


def _check_group(run: Run, group: ArrayLike) -> Array:
    samples = np.unique(np.atleast_1d(np.asarray(group)))
    if samples.size == 0 or samples.dtype.kind not in "iu":
        raise ValueError(f"a group must be a non-empty list of sample indices, got {group!r}")
    if samples[0] < 0 or samples[-1] >= run.objective.n:
        wrong = samples[0] if samples[0] < 0 else samples[-1]
        raise ValueError(f"a group names sample {wrong}, the objective has samples 0 … {run.objective.n - 1}")
    return samples


def _refuse_empty(run: Run, job: _Job, convention: Convention) -> None:
    for t in job.steps:
        left = np.sum(batch_weights(run.objective, run.batches[t])[~np.isin(run.batches[t], job.samples)])
        convention.refuse_empty(int(t), run.batches[t], left, f"samples {job.samples[:5].tolist()}")


class _Cache:
    """One file per retraining, named by its content."""

    def __init__(self, run: Run, convention: Convention, folder: Path) -> None:
        self.folder = folder / _digest(*_content(run), convention.removal)[:16]
        self.like = run.final

    def _file(self, job: _Job) -> Path:
        return self.folder / f"{_digest(job.samples, job.steps)[:24]}.npy"

    def get(self, job: _Job) -> Tensor | None:
        if not self._file(job).exists():
            return None
        return array_namespace(self.like).asarray(np.load(self._file(job)), device=device(self.like))

    def put(self, job: _Job, theta: Tensor) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self._file(job).with_suffix(".part.npy")
        np.save(part, np.asarray(to_device(theta, "cpu")))
        part.replace(self._file(job))


def _content(run: Run) -> list[Tensor]:
    """Everything that a retraining depends on: both ends of the run, its batches and every step's numbers."""
    parts: list[Tensor] = [*run.state(0), *run.state(run.steps), *run.batches]
    parts += [part for part in (getattr(run.objective, "batch_weights", None),) if part is not None]
    for t in range(run.steps):
        step = run.step(t)
        parts += [type(step).__name__, *(getattr(step, entry.name) for entry in fields(step))]
    return parts


def _digest(*parts: Tensor) -> str:
    digest = hashlib.sha256()
    for part in parts:
        if hasattr(part, "shape"):
            part = np.ascontiguousarray(np.asarray(to_device(part, "cpu")))
            digest.update(f"{part.dtype}{part.shape}".encode() + part.tobytes())
        else:
            digest.update(repr(part).encode() + b";")
    return digest.hexdigest()
