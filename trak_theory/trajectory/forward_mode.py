"""Forward mode: what removing a few samples does to the end of the run, for all queries at once."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from trak_theory.trajectory.convention import Convention, Removal
from trak_theory.trajectory.optimizer.steps import State
from trak_theory.trajectory.run import Run, batch_weights
from trak_theory.trajectory.sweep.blocks import zeros
from trak_theory.trajectory.sweep.push import Change, Estimator, frozen_steps, moment, push
from trak_theory.trajectory.sweep.removals import Removals
from trak_theory.trajectory.sweep.reverse import Curvature, Settings


def forward(
    run: Run,
    samples: Any,
    *,
    estimator: Estimator = "two-step",
    removal: Removal = "keep",
    curvature: Curvature = "exact",
    damping: float = 1.0,
) -> Any:
    """δθ_T (s, p) of removing each of `samples` (s,) at all its occurrences, in the estimator's approximation.

    Its influence on any query with gradient ∇f is −⟨∇f, δθ_T⟩, equal to the reverse sweep's. Cost: s directions in
    every Hessian-vector product, whatever the number of queries.
    """
    settings, convention = Settings(estimator, curvature, damping), Convention(removal)
    run = settings.view(run)
    samples = np.atleast_1d(np.asarray(samples))
    everything = slice(None)
    change: State = tuple(zeros((len(samples), len(part)), part) for part in run.state(0))
    pending: dict[int, list[Change]] = defaultdict(list)  # t → what is to be added to δx_t
    for t in range(run.steps):
        here = moment(run, t)
        in_batch = batch_weights(run.objective, run.batches[t])
        weights = np.array([in_batch[run.batches[t] == i].sum() for i in samples])
        convention.refuse_empty(t, run.batches[t], in_batch.sum() - weights.max(), "a sample")
        curved = settings.curvature_product(run, t, here.state[0], change[0])
        change = here.step.tangent(here.state, here.gradient, change, curved)
        if weights.any():
            removals = Removals(run, t, here, convention, samples, weights, len(samples))
            xi = removals.xi(everything, removals.gradients(everything))
            frozen = frozen_steps(estimator, run.age(t), run.steps - t - 1)
            following = [moment(run, t + 1 + k) for k in range(frozen)]
            ((_, changes),) = push(estimator, here, following, xi, [everything])
            for k, added in enumerate(changes, t + 1):
                pending[k].append(added)
        for added in pending.pop(t + 1, []):
            change = _add(change, added)
    return change[0]


def _add(state: State, change: Change) -> State:
    return tuple(a if b is None else a + b for a, b in zip(state, change, strict=True))
