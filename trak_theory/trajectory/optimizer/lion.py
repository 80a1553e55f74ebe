"""Lion: the sign of an interpolated momentum."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from array_api_compat import array_namespace

from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.optimizer.kernels import mix
from trak_theory.trajectory.optimizer.recipes import Optimizer
from trak_theory.trajectory.optimizer.steps import State, StepMap


@dataclass(frozen=True, kw_only=True)
class LionStep(StepMap):
    """c = β₁m + (1−β₁)g,  θ' = (1−ηλ)θ − η sign(c),  m' = β₂m + (1−β₂)g.

    The sign's derivative is 0 wherever it exists: a tangent of m never reaches θ. What a removed sample does to θ is
    made of sign flips, which differences of steps (`increment`) see and derivatives do not.
    """

    beta1: Tensor
    beta2: Tensor

    def _increment(self, state: State, g: Tensor, into: State, less: Tensor) -> State:
        theta, m = state
        direction = array_namespace(g).sign(mix(self.beta1, m, g).real)
        change = -self.lr * direction - self.lr * self.weight_decay * theta - less
        return change, mix(self.beta2, m, g, into[1])

    def _tangent(self, state: State, g: Tensor, dstate: State, dg: Tensor) -> State:
        dtheta, dm = dstate
        return (1 - self.lr * self.weight_decay) * dtheta, self.beta2 * dm + (1 - self.beta2) * dg

    def _adjoint(self, state: State, g: Tensor, cotangent: State) -> tuple[State, Tensor]:
        theta, m = cotangent
        return ((1 - self.lr * self.weight_decay) * theta, self.beta2 * m), (1 - self.beta2) * m


@dataclass(frozen=True)
class Lion(Optimizer):
    """Lion (Chen et al. 2023); torch.optim has none, and other packages differ in details: this is the paper's.

    Its run is piecewise constant in a sample's weight, so that the influence function of a run is exactly 0:
    "first-order" and "hybrid" say so for every sample. "exact-push", "two-step" and "frozen-push" count the signs that
    flip at the sample's own step and at the next ones, the latter up to the run's tenth step; later flips, through the
    moment's memory of 1/(1−β₂) steps or through moved gradients, are not in any of them. Compare with retraining.

    >>> import numpy as np
    >>> theta = np.zeros(3)
    >>> Lion(0.1).at(0, theta)((theta, theta), np.array([5.0, -1e-9, 0.0]))[0]
    array([-0.1,  0.1,  0. ])
    """

    per_group: ClassVar[frozenset[str]] = frozenset({"lr", "weight_decay", "betas"})

    lr: float = 1e-4
    _: KW_ONLY
    betas: tuple[float, float] = (0.9, 0.99)

    @property
    def slots(self) -> int:
        return 1

    def at(self, t: int, theta: Tensor) -> LionStep:
        return LionStep(
            **self._shared(t, theta),
            beta1=self._spread(theta, lambda own: own["betas"][0]),
            beta2=self._spread(theta, lambda own: own["betas"][1]),
        )
