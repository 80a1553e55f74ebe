"""Influence along a run: what each occurrence of a sample contributes, and the steps that dominate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy import ndarray as Array

from trak_theory.trajectory.sweep.contribution import Contribution

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABELLED = 3  # steps that a figure names


class Along(NamedTuple):
    """One sample's steps (k,), in order, and the influence (k, q) that it has through each of them."""

    steps: Array
    influence: Array


@dataclass(frozen=True, eq=False)
class PerStep:
    """f(θ_T) − f(θ_T without i at step t), estimated, for every step t and sample i of its batch; presence sign.

    steps, samples (m,), influence (m, q), ordered by step and then by sample. With removal from the whole run the sum
    over a sample's steps is its row of `Attribution.influence`: the estimators are linear in what each step adds.

    >>> along = PerStep(np.array([0, 0, 2]), np.array([3, 5, 3]), np.array([[1.0], [0.2], [-0.5]]))
    >>> along.of(3).steps
    array([0, 2])
    >>> along.dominant(3, share=0.6)
    array([0])
    """

    steps: Array
    samples: Array
    influence: Array

    @classmethod
    def of_contributions(cls, contributions: Sequence[Contribution]) -> Self:
        """The contributions of a sweep as one table."""
        steps = [np.full(len(part.samples), part.step) for part in contributions]
        samples = [part.samples for part in contributions]
        influence = [part.influence for part in contributions]
        return cls(np.concatenate(steps), np.concatenate(samples), np.concatenate(influence))

    def of(self, sample: int) -> Along:
        """One sample along the run; raises ValueError if no batch holds it."""
        mine = self.samples == sample
        if not mine.any():
            raise ValueError(f"sample {sample} is in no batch of this run, so that no step carries its influence")
        return Along(self.steps[mine], self.influence[mine])

    def dominant(self, sample: int, *, query: int = 0, share: float = 0.5) -> Array:
        """The fewest steps whose |influence| makes up at least `share` of Σ_t |influence_t|, the largest first."""
        if not 0 < share <= 1:
            raise ValueError(f"share must lie in (0, 1], got {share}")
        steps, influence = self.of(sample)
        size = np.abs(influence[:, query])
        order = np.argsort(-size, kind="stable")
        reached = np.cumsum(size[order])
        return steps[order[: 1 + int(np.searchsorted(reached, share * reached[-1]))]]

    def draw(self, axes: Axes, sample: int, *, query: int = 0, error: PerStep | None = None) -> None:
        """Bars of one sample's influence over the steps of the run, and their running sum, on matplotlib axes.

        The dominant steps are named. `error` adds whiskers of its absolute values, such as the difference from a
        damped sweep: `PerStep.minus`.
        """
        steps, influence = self.of(sample)
        whiskers = None if error is None else np.abs(error.of(sample).influence[:, query])
        values = influence[:, query]
        axes.bar(steps, values, yerr=whiskers, color="0.6", label="at this step")
        axes.step([*steps, self.steps.max() + 1], [*np.cumsum(values), values.sum()], where="post", label="so far")
        for step in self.dominant(sample, query=query)[:LABELLED]:
            axes.annotate(f"step {step}", (step, values[steps == step][0]), ha="center", va="bottom")
        axes.axhline(0, color="k", linewidth=0.5)
        axes.set(xlabel="step of training", ylabel=f"influence of sample {sample}")
        axes.legend(frameon=False)

    def minus(self, other: PerStep) -> PerStep:
        """The difference of two attributions of one run, step by step."""
        if not (np.array_equal(self.steps, other.steps) and np.array_equal(self.samples, other.samples)):
            raise ValueError("the two attributions are of different runs: their steps or samples differ")
        return PerStep(self.steps, self.samples, self.influence - other.influence)
