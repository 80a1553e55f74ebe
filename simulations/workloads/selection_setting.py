"""A data-selection problem: candidates of which a share is flawed, and validation, judge and test sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy import ndarray as Array
from numpy.random import Generator

from trak_theory.trajectory import Objective, Task
from trak_theory.trajectory.batches import shuffled_epochs

BATCH, KEEP = 40, 0.5


@dataclass(frozen=True, eq=False)
class Setting:
    """An objective over all samples, and disjoint sets of them; flawed (n,) marks candidates one would not choose.

    accuracy: (θ, samples) ↦ share of right predictions. No policy and no choice sees the test set.
    """

    objective: Objective
    accuracy: Callable[[Any, Array], float]
    start: Any
    flawed: Array
    candidates: Array
    validation: Array
    judge: Array
    test: Array

    def stream(self, steps: int, rng: Generator) -> list[Array]:
        """Candidate batches in shuffled epochs."""
        return [
            self.candidates[batch] for batch in shuffled_epochs(len(self.candidates), size=BATCH, steps=steps, rng=rng)
        ]

    def task(self, steps: int, rng: Generator) -> Task:
        return Task(self.objective, self.start, self.stream(steps, rng), self.validation, self.judge)

    def mean_loss(self, theta: Any, samples: Array) -> float:
        return float(self.objective.loss(theta, samples).mean())

    def test_row(self, theta: Any) -> dict[str, float]:
        return {"test_loss": self.mean_loss(theta, self.test), "test_accuracy": self.accuracy(theta, self.test)}
