"""Pushes: from the change ξ of one batch gradient to changes of the states after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.optimizer.steps import Clipping, State, StepMap
from trak_theory.trajectory.run import Run
from trak_theory.trajectory.sweep.blocks import squared_norm

Estimator = Literal["two-step", "frozen-push", "exact-push", "hybrid", "first-order", "sgd"]
StateChange = tuple[Tensor, ...]  # like a State, with None for a part that does not change

LINEAR = ("first-order", "sgd")
YOUNG = 10  # steps; from there on one gradient is at most about a tenth of v̂


@dataclass(frozen=True, eq=False)
class RecordedStep:
    """Step t of a run: x_t, g_t and the map F_t."""

    state: State
    gradient: Tensor
    step: StepMap

    @cached_property
    def clipping(self) -> Clipping:
        return Clipping.at(self.gradient, self.step.clip_norm)

    def part(self, block: slice) -> RecordedStep:
        """The step on some of the coordinates; the gradient is clipped."""
        state = tuple(x[block] for x in self.state)
        return RecordedStep(state, self.clipping.value(self.gradient[block]), self.step.part(block))


def recorded_step(run: Run, t: int) -> RecordedStep:
    return RecordedStep(run.state(t), run.gradient(t), run.step(t))


def frozen_steps(estimator: Estimator, age: int, left: int) -> int:
    """Number of the `left` steps after one of that age (`Run.age`) that the changed slots pass through exactly."""
    exact = {"two-step": 1, "frozen-push": max(1, YOUNG - 1 - age)}.get(estimator, 0)
    return min(exact, left)


def push(
    estimator: Estimator,
    here: RecordedStep,
    following: Sequence[RecordedStep],
    xi: Callable[[slice], Tensor],
    pieces: Sequence[slice],
) -> Iterator[tuple[slice, list[StateChange]]]:
    """Terms that ξ (b, p) at step t adds to δx_{t+1}, δx_{t+2}, …; all that is not listed propagates linearly.

    first-order    F_g ξ
    hybrid         θ: F(x_t, g_t + ξ) − F(x_t, g_t);  slots: first order
    exact-push     F(x_t, g_t + ξ) − F(x_t, g_t)
    with k = len(following) frozen steps (two-step: 1), the slots also pass through F_{t+1} … F_{t+k} exactly, at the
    recorded θ and with the recorded gradients; what each of these steps does to θ enters at that step.

    xi: block of coordinates ↦ ξ (b, block). The changes come block by block, for each of `pieces`.
    """
    clipping, along = _clipping(here, xi, pieces)
    for block in pieces:
        gradient, change = here.gradient[block], xi(block)
        slope, pushed = here.clipping.slope(gradient, change, along), clipping.value(gradient + change)
        later = [step.part(block) for step in following]
        yield block, _changes(estimator, here.part(block), later, slope, pushed)


def _clipping(here: RecordedStep, xi: Callable[[slice], Tensor], pieces: Sequence[slice]) -> tuple[Clipping, Tensor]:
    """The clipping of g + ξ, and gᵀξ (b, 1)."""
    norm, gradient = here.step.clip_norm, here.gradient
    if norm is None:
        return Clipping(), None
    along = sum(xi(block) @ gradient[block] for block in pieces)
    return Clipping.of(squared_norm(lambda block: gradient[block] + xi(block), pieces), norm), along[:, None]


def _changes(
    estimator: Estimator, here: RecordedStep, following: Sequence[RecordedStep], slope: Tensor, pushed: Tensor
) -> list[StateChange]:
    """From the clipped gradient without the sample, `pushed`, and its derivative, `slope`; elementwise."""
    state, gradient, step = here.state, here.gradient, here.step
    if estimator in LINEAR:
        return [_linear(here, slope)]
    base, after = step.increment(state, gradient), step.increment(state, pushed)
    if estimator == "hybrid":
        return [(after[0] - base[0], *_linear(here, slope)[1:])]
    changes: list[StateChange] = []
    for later in following:
        changes.append((after[0] - base[0], *(None,) * (len(state) - 1)))
        theta = later.state[0]
        base = later.step.increment((theta, *base[1:]), later.gradient)
        after = later.step.increment((theta, *after[1:]), later.gradient)
    return [*changes, _difference(after, base)]


def _linear(here: RecordedStep, slope: Tensor) -> State:
    return here.step.tangent(here.state, here.gradient, (0.0,) * len(here.state), slope)


def _difference(a: State, b: State) -> StateChange:
    return tuple(x - y for x, y in zip(a, b, strict=True))
