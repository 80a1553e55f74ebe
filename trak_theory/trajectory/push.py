"""How a removed sample enters the state: from the change ξ of one batch gradient to changes of the states after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trak_theory.trajectory.run import Run
from trak_theory.trajectory.updates import State, StepMap

Estimator = Literal["two-step", "frozen-push", "exact-push", "hybrid", "first-order", "sgd"]
Change = tuple[Any, ...]  # like a State, with None for a part that does not change

YOUNG = 10  # steps; from there on one gradient is at most about a tenth of v̂


@dataclass(frozen=True, eq=False)
class Moment:
    """Step t of a run: x_t, g_t and the map F_t."""

    state: State
    gradient: Any
    step: StepMap


def moment(run: Run, t: int) -> Moment:
    return Moment(run.state(t), run.gradient(t), run.step(t))


def frozen_steps(estimator: Estimator, age: int, left: int) -> int:
    """How many of the `left` steps after a step of that age (see `Run.age`) the changed slots pass through exactly."""
    exact = {"two-step": 1, "frozen-push": max(1, YOUNG - 1 - age)}.get(estimator, 0)
    return min(exact, left)


def push(estimator: Estimator, here: Moment, following: Sequence[Moment], xi: Any) -> list[Change]:
    """What ξ (b, p) at step t adds to δx_{t+1}, δx_{t+2}, …; all that is not listed propagates linearly.

    first-order    F_g ξ
    hybrid         θ: F(x_t, g_t + ξ) − F(x_t, g_t);  slots: first order
    exact-push     F(x_t, g_t + ξ) − F(x_t, g_t)
    with k = len(following) frozen steps (two-step: 1), the slots also pass through F_{t+1} … F_{t+k} exactly, at the
    recorded θ and with the recorded gradients; what each of these steps does to θ enters at that step.
    """
    state, gradient, step = here.state, here.gradient, here.step
    if estimator in ("first-order", "sgd"):
        return [_linear(here, xi)]
    base, pushed = step.increment(state, gradient), step.increment(state, gradient + xi)
    if estimator == "hybrid":
        return [(pushed[0] - base[0], *_linear(here, xi)[1:])]
    changes = [_difference(pushed, base)]
    for later in following:
        changes[-1] = (changes[-1][0], *(None,) * (len(state) - 1))
        theta = later.state[0]
        base = later.step.increment((theta, *base[1:]), later.gradient)
        pushed = later.step.increment((theta, *pushed[1:]), later.gradient)
        changes.append(_difference(pushed, base))
    return changes


def _linear(here: Moment, xi: Any) -> State:
    return here.step.tangent(here.state, here.gradient, (0.0,) * len(here.state), xi)


def _difference(a: State, b: State) -> Change:
    return tuple(x - y for x, y in zip(a, b, strict=True))
