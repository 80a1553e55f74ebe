"""One recipe per step, as a training loop used them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.optimizer.recipes import Optimizer
from trak_theory.trajectory.optimizer.steps import StepMap


@dataclass(frozen=True)
class RecordedOptimizer(Optimizer):
    """One recipe per step, read off the parameter groups; `taken` steps had been made before the first."""

    per_group: ClassVar[frozenset[str]] = frozenset()

    recipes: Sequence[Optimizer]
    taken: int = 0

    @property
    def slots(self) -> int:
        return self.recipes[0].slots

    def at(self, t: int, theta: Tensor) -> StepMap:
        return self.recipes[t].at(t + self.taken, theta)

    def plain(self) -> Optimizer:
        return replace(self, recipes=[recipe.plain() for recipe in self.recipes])
