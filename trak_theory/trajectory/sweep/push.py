"""Pushes: from the change ξ of one batch gradient to changes of the states after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.optimizer.steps import Clipping, State, StepMap
from trak_theory.trajectory.run import Run
from trak_theory.trajectory.sweep.blocks import empty, squared_norm

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


class Perturbation(Protocol):
    """ξ (b, p) of a few samples, read in blocks of coordinates."""

    def __call__(self, block: slice) -> Tensor:
        """ξ (b, block)."""
        ...

    def pushed(self, block: slice, into: Tensor = None) -> Tensor:
        """g_t + ξ (b, block), a new array or written to `into`."""
        ...


def push(
    estimator: Estimator,
    here: RecordedStep,
    following: Sequence[RecordedStep],
    xi: Perturbation,
    pieces: Sequence[slice],
    workspace: Workspace | None = None,
) -> Iterator[tuple[slice, Iterator[StateChange]]]:
    """Terms that ξ (b, p) at step t adds to δx_{t+1}, δx_{t+2}, …; all that is not listed propagates linearly.

    first-order    F_g ξ
    hybrid         θ: F(x_t, g_t + ξ) − F(x_t, g_t);  slots: first order
    exact-push     F(x_t, g_t + ξ) − F(x_t, g_t)
    with k = len(following) frozen steps (two-step: 1), the slots also pass through F_{t+1} … F_{t+k} exactly, at the
    recorded θ and with the recorded gradients; what each of these steps does to θ enters at that step.

    The changes come block by block, for each of `pieces`. With a workspace each is valid until the next is asked for.
    """
    clipping, along = _clipping(here, xi, pieces)
    for block in pieces:
        slope = None
        if estimator in (*LINEAR, "hybrid"):
            slope = here.clipping.slope(here.gradient[block], xi(block), along)
        into = None if workspace is None else workspace.state(block)
        pushed = clipping.value(xi.pushed(block, into[1] if into and len(into) > 1 else None))
        later = [step.part(block) for step in following]
        yield block, _changes(estimator, here.part(block), later, slope, pushed, into)


class Workspace:
    """Arrays like a state of some models, on a block of coordinates, to be written to again and again."""

    def __init__(self, parts: int, models: int, widest: int, like: Tensor) -> None:
        self._models = models
        self._buffers = [empty((models * widest,), like) for _ in range(parts)]

    def state(self, block: slice) -> State:
        width = block.stop - block.start
        return tuple(buffer[: self._models * width].reshape((self._models, width)) for buffer in self._buffers)


def _clipping(here: RecordedStep, xi: Perturbation, pieces: Sequence[slice]) -> tuple[Clipping, Tensor]:
    """The clipping of g + ξ, and gᵀξ (b, 1)."""
    norm, gradient = here.step.clip_norm, here.gradient
    if norm is None:
        return Clipping(), None
    along = sum(xi(block) @ gradient[block] for block in pieces)
    return Clipping.of(squared_norm(xi.pushed, pieces), norm), along[:, None]


def _changes(
    estimator: Estimator,
    here: RecordedStep,
    following: Sequence[RecordedStep],
    slope: Tensor,
    pushed: Tensor,
    into: State | None,
) -> Iterator[StateChange]:
    """From the clipped gradient without the sample, `pushed`, and its derivative, `slope`; elementwise."""
    state, gradient, step = here.state, here.gradient, here.step
    if estimator in LINEAR:
        yield _linear(here, slope)
        return
    base = step.increment(state, gradient)
    change, *slots = step.increment(state, pushed, into, less=base[0])
    if estimator == "hybrid":
        yield (change, *_linear(here, slope)[1:])
        return
    for later in following:
        yield (change, *(None,) * len(slots))
        theta = later.state[0]
        base = later.step.increment((theta, *base[1:]), later.gradient)
        change, *slots = later.step.increment((theta, *slots), later.gradient, into, less=base[0])
    yield (change, *(_minus(own, other) for own, other in zip(slots, base[1:], strict=True)))


def _linear(here: RecordedStep, slope: Tensor) -> State:
    return here.step.tangent(here.state, here.gradient, (0.0,) * len(here.state), slope)


def _minus(own: Tensor, other: Tensor) -> Tensor:
    own -= other
    return own
