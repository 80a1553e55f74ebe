"""Forward mode: what removing a few samples does to every state of the run, and how far that derivative holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from array_api_compat import array_namespace, device
from numpy import ndarray as Array
from numpy.typing import ArrayLike

from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.convention import Convention, Removal
from trak_theory.trajectory.optimizer.steps import State
from trak_theory.trajectory.query import as_numpy
from trak_theory.trajectory.run import Run
from trak_theory.trajectory.states.training_step import batch_weights
from trak_theory.trajectory.sweep.blocks import zeros
from trak_theory.trajectory.sweep.push import Estimator, RecordedStep, StateChange, frozen_steps, push, recorded_step
from trak_theory.trajectory.sweep.removals import Perturbed, Removals
from trak_theory.trajectory.sweep.reverse import Curvature, Settings
from trak_theory.trajectory.sweep.sample_rows import SampleRows


def forward(
    run: Run,
    samples: ArrayLike,
    *,
    estimator: Estimator = "frozen-push",
    removal: Removal = "keep",
    curvature: Curvature = "exact",
    damping: float = 1.0,
) -> Tensor:
    """δθ_T (s, p) of removing each of `samples` (s,) at all its occurrences, in the estimator's approximation.

    Its influence on any query with gradient ∇f is −⟨∇f, δθ_T⟩, equal to the reverse sweep's. Cost: s directions in
    every Hessian-vector product, whatever the number of queries.
    """
    settings, convention = Settings(estimator, curvature, damping), Convention(removal)
    *_, end = displacements(settings.view(run), samples, settings, convention)
    return end.change[0]


@dataclass(frozen=True, eq=False)
class FollowedPaths:
    """Paths predicted without each of s samples: their defects κ_i (s,), see `path_defects`, and ends δθ_T (s, p)."""

    defects: Array
    change: Tensor


def path_defects(run: Run, samples: ArrayLike, settings: Settings, convention: Convention) -> Array:
    """Distance of each predicted path without a sample from one that obeys the optimiser, (s,), in [0, ∞].

        κ_i = √(Σ_t ‖Δu_t − (δ_{t+1} − δ_t)‖² / Σ_t ‖Δu_t‖²)

    δ_t is the displacement of θ_t that the estimate predicts for the removal of sample i, Δu_t the change of the update
    u_t that the optimiser makes there: with the gradient of the batch without i at θ_t + δ_t and with moments that have
    seen these gradients all along. 0 where the prediction is the retraining; near 1 where it says nothing of it, as
    with kinks that no Hessian knows of; far above 1 where δ has exploded; ∞ where a gradient is not finite. For plain
    SGD Δu − (δ' − δ) is η times secant minus Hessian product. No retraining: one gradient and one Hessian-vector
    product a step for each sample. Source: ours.

    >>> from trak_theory.trajectory import MLP, SGD, train
    >>> net = MLP(np.eye(4), [0, 1, 1, 0], hidden=(), classes=2)
    >>> run = train(net, np.zeros(net.p), [[0, 1], [2, 3], [0, 2]], SGD(0.01))
    >>> bool(path_defects(run, [0], Settings(), Convention())[0] < 1e-2)
    True
    """
    return followed_paths(run, samples, settings, convention).defects


def followed_paths(run: Run, samples: ArrayLike, settings: Settings, convention: Convention) -> FollowedPaths:
    """`path_defects` of each of `samples` (s,), and where these paths end, in the same pass over the run."""
    run, samples = settings.view(run), np.atleast_1d(np.asarray(samples))
    missed, whole, entered = np.zeros(samples.size), np.zeros(samples.size), np.zeros(samples.size, bool)
    slots: State = tuple(zeros((samples.size, part.shape[-1]), part) + part for part in run.state(0)[1:])
    change = zeros((samples.size, run.final.shape[0]), run.final)
    with np.errstate(over="ignore", invalid="ignore"):
        for point, after in pairwise(displacements(run, samples, settings, convention)):
            gradient = _gradient_without(run, point, samples, convention)
            here, moved = point.step, point.step.state[0] + point.change[0]
            update, *rest = here.step.increment((moved, *slots), gradient)
            slots, made = tuple(rest), update - here.step.increment(here.state, here.gradient)[0]
            entered |= np.isin(samples, run.batches[point.t])
            missed += entered * _squares(made - (after.change[0] - point.change[0]))
            whole += entered * _squares(made)
            change = after.change[0]
        defects = np.sqrt(missed / np.where(whole == 0, 1.0, whole))
    return FollowedPaths(np.where(np.isfinite(defects), defects, np.inf), change)


def _gradient_without(run: Run, point: Displacement, samples: Array, convention: Convention) -> Tensor:
    """The gradient (s, p) of the batch without each sample at its displaced θ."""
    batch, moved = run.batches[point.t], point.change[0]
    kept, weights = (
        array_namespace(moved).asarray(part, dtype=moved.dtype, device=device(moved))
        for part in (batch != samples[:, None], batch_weights(run.objective, batch))
    )
    theta = point.step.state[0] + moved
    return run.objective.gradient(theta, batch, convention.weights(kept, weights))


@dataclass(frozen=True, eq=False)
class Displacement:
    """δx_t, parts (s, p), and the step t of the run; none at its end."""

    t: int
    change: State
    here: RecordedStep | None = None

    @property
    def step(self) -> RecordedStep:
        assert self.here is not None
        return self.here


def displacements(run: Run, samples: ArrayLike, settings: Settings, convention: Convention) -> Iterator[Displacement]:
    """Changes of x_0, …, x_T when each of `samples` (s,) is removed, in the approximation of an estimate."""
    samples = np.atleast_1d(np.asarray(samples))
    change: State = tuple(zeros((len(samples), len(part)), part) for part in run.state(0))
    pending: dict[int, list[StateChange]] = defaultdict(list)  # t → what is to be added to δx_t
    for t in range(run.steps):
        here = recorded_step(run, t)
        yield Displacement(t, change, here)
        curved = settings.curvature_product(run, t, here.state[0], change[0])
        change = here.step.tangent(here.state, here.gradient, change, curved)
        for k, added in enumerate(_entering(run, here, t, samples, settings, convention), t + 1):
            pending[k].append(added)
        for added in pending.pop(t + 1, []):
            change = _add(change, added)
    yield Displacement(run.steps, change)


def _entering(
    run: Run, here: RecordedStep, t: int, samples: Array, settings: Settings, convention: Convention
) -> list[StateChange]:
    """Terms that removing the samples from the batch of step t adds to δx_{t+1}, δx_{t+2}, …."""
    in_batch = batch_weights(run.objective, run.batches[t])
    weights = np.array([in_batch[run.batches[t] == i].sum() for i in samples])
    convention.refuse_empty(t, run.batches[t], in_batch.sum() - weights.max(), "a sample")
    if not weights.any():
        return []
    removals = Removals(run, t, here, convention, samples, weights, len(samples))
    gradients = SampleRows.whole(run.objective.sample_gradients(here.state[0], samples))
    xi = Perturbed(removals, slice(None), gradients)
    frozen = frozen_steps(settings.estimator, run.age(t), run.steps - t - 1)
    following = [recorded_step(run, t + 1 + k) for k in range(frozen)]
    ((_, changes),) = push(settings.estimator, here, following, xi, [slice(0, run.objective.p)])
    return list(changes)


def _squares(rows: Tensor) -> Array:
    return as_numpy(array_namespace(rows).sum(rows * rows, axis=-1))


def _add(state: State, change: StateChange) -> State:
    return tuple(a if b is None else a + b for a, b in zip(state, change, strict=True))
