"""`attribute`: from a run to the influence of its samples on what is evaluated at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
from numpy import ndarray as Array

from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.convention import Convention, Occurrences, Removal
from trak_theory.trajectory.proxies import DAMPED, curvature_proxy, most_influential
from trak_theory.trajectory.query import Query, as_query
from trak_theory.trajectory.reliability.tracked import Tracked, track
from trak_theory.trajectory.run import Run
from trak_theory.trajectory.sweep.contribution import Contribution
from trak_theory.trajectory.sweep.per_step import PerStep
from trak_theory.trajectory.sweep.push import Estimator
from trak_theory.trajectory.sweep.reverse import Curvature, Settings, reverse_sweep

TRACKED = 5  # samples whose path is followed through the run


class Changes(TypedDict, total=False):
    """Fields of `Settings`."""

    estimator: Estimator
    curvature: Curvature
    damping: float
    horizon: int | None


@dataclass(frozen=True, eq=False)
class Attribution:
    """An estimate of f(θ_T) − f(θ_T without i), presence sign.

    influence (n, q)     one row per sample; with occurrences="each" one row per (step, sample), in that order
    steps, samples       the step and the sample of each row; steps is None for occurrences="all"
    convention           removal and occurrences, which the truth must share
    per_step             the same influence, step by step
    settings             estimator, curvature, damping γ, horizon K
    proxy (n, q)         an estimate of |error| without retraining, computed when first asked for
    tracked              paths predicted without the five largest samples, followed and read at their ends, likewise
    defect κ             how far these paths are from being runs, see `Tracked`
    """

    influence: Array
    samples: Array
    steps: Array | None
    convention: Convention
    settings: Settings
    run: Run = field(repr=False)
    query: Query = field(repr=False)
    contributions: tuple[Contribution, ...] = field(repr=False)

    @cached_property
    def per_step(self) -> PerStep:
        """Contribution of each occurrence of a sample; the sum over its steps is its influence on the whole run."""
        return PerStep.of_contributions(self.contributions)

    @cached_property
    def proxy(self) -> Array:
        """`curvature_proxy` of two-step and frozen-push, |two-step − estimate| of all others: most of their error."""
        if self.settings.estimator in ("two-step", "frozen-push"):
            return curvature_proxy(self.influence, self.damped, self.tracked.index)
        return np.abs(self.vary(estimator="two-step").influence - self.influence)

    @cached_property
    def damped(self) -> Array:
        """The same attribution with nine tenths of the Hessian, (n, q)."""
        return self.vary(damping=DAMPED * self.settings.damping).influence

    @cached_property
    def tracked(self) -> Tracked:
        """The paths predicted without the five samples with the largest estimates, followed through the run."""
        largest = list(dict.fromkeys(self.samples[most_influential(self.influence)].tolist()))[:TRACKED]
        return track(self.run, self.query, np.array(largest), self.settings, self.convention)

    @property
    def defect(self) -> float:
        return self.tracked.defect

    def vary(self, **changes: Unpack[Changes]) -> Attribution:
        """The same attribution with other settings, computed anew."""
        return estimate(self.run, self.query, replace(self.settings, **changes), self.convention)


def attribute(
    run: Run,
    query: Tensor,
    *,
    estimator: Estimator = "frozen-push",
    removal: Removal = "keep",
    occurrences: Occurrences = "all",
    curvature: Curvature = "exact",
    horizon: int | None = None,
    damping: float = 1.0,
    folder: Path | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Attribution:
    """The influence of every training sample on every query, without retraining.

    query: an array (p,) or (p, q), read as queryᵀθ_T, or a `Query`. One reverse sweep over the run with exact
    Hessian-vector products; all q queries go as one block.

    estimator    frozen-push (ours, the default: nowhere worse beyond its error, far better for embeddings): the
                 optimiser's step with the sample removed, and the next one's moments, exactly, then linear; exact
                 moments go on through the run's first ten steps, where v̂ is young; two-step (ours): through one step
                 only, which holds fewer gradients; exact-push (ours): one exact step, which can blow up on a young v̂;
                 hybrid (ours): an exact step for θ, linear moments; first-order: the derivative (SGD- or
                 AdamW-influence, by the run's optimiser); sgd: the SGD formula whatever the optimiser was
    removal      keep: the batch gradient keeps its denominator |B|; renormalise: it becomes the mean of the rest
    occurrences  all: removed from the whole run; each: from one step at a time, one row per (step, sample)
    curvature    exact, ggn or none; damping γ ≤ 1 multiplies it
    horizon K    read a change made at step t off θ_{t+1+K} instead of θ_T

    folder       keeps what the sweep has computed every ⌈√T⌉ steps; a call that was ended goes on there when it is made
                 again, to the same scores to the last bit. What is damaged is computed again; a folder of another sweep
                 is refused. The run is needed again for that: `Run.load` one that was saved, or train it once more
    progress     called with the steps done and T after every step, as `lambda done, steps: bar.update()`

    Memory: ⌈√T⌉ + 1 checkpoints, the states replayed between two of them, a state for each query (AdamW: 3 vectors) and
    one more vector for each frozen step (two-step: 1), and at most sweep.CHUNK bytes to work with, or what one sample
    and one query take; frozen-push also holds the gradients of its first ten steps.

    Valid to first order in what the sample does to the path after its own step: errors grow with the learning rate
    and with the number of steps; `.proxy` estimates them.

    >>> from trak_theory.trajectory import MLP, AdamW, loss_query, train
    >>> model = MLP(np.eye(3), [0, 1, 1], hidden=(2,))
    >>> run = train(model, model.start(np.random.default_rng(0)), [np.array([0, 1]), np.array([0, 2])], AdamW(0.01))
    >>> attribute(run, loss_query(model, [2])).influence.shape
    (3, 1)
    """
    settings = Settings(estimator, curvature, damping, horizon)
    convention = Convention(removal, occurrences)
    return estimate(run, as_query(query, run.final), settings, convention, folder=folder, progress=progress)


def estimate(
    run: Run,
    query: Query,
    settings: Settings,
    convention: Convention,
    *,
    folder: Path | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Attribution:
    run.check_unchanged()
    swept: list[Contribution] = []
    for contribution in reverse_sweep(run, query, settings, convention, folder=folder):
        swept.append(contribution)
        if progress is not None:
            progress(len(swept), run.steps)
    contributions = tuple(reversed(swept))
    if convention.occurrences == "each":
        each = PerStep.of_contributions(contributions)
        return Attribution(each.influence, each.samples, each.steps, convention, settings, run, query, contributions)
    influence = np.zeros((run.objective.n, contributions[0].influence.shape[1]))
    for contribution in contributions:
        influence[contribution.samples] += contribution.influence
    return Attribution(influence, np.arange(run.objective.n), None, convention, settings, run, query, contributions)
