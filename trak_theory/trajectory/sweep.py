"""The reverse sweep: one pass back through the run gives every sample's influence on a block of queries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from array_api_compat import array_namespace, device
from numpy import ndarray as Array

from trak_theory.trajectory.convention import Convention, one_of
from trak_theory.trajectory.push import Change, Estimator, Moment, frozen_steps, moment, push
from trak_theory.trajectory.query import Query, as_numpy
from trak_theory.trajectory.run import Run, as_sgd
from trak_theory.trajectory.updates import State

Curvature = Literal["exact", "ggn", "none"]
CHUNK = 2**25  # bytes of one array of per-sample gradients; a push holds about twelve such arrays


@dataclass(frozen=True)
class Settings:
    """What an estimate is made of.

    estimator   how a removed sample enters the state, see `push`; "sgd" reads the run as plain SGD's
    curvature   the Hessian that carries a change on: exact, ggn (Gauss–Newton) or none
    damping γ   multiplies that Hessian
    horizon K   a change at step t is read off θ_{t+1+K}; None: off θ_T
    """

    estimator: Estimator = "two-step"
    curvature: Curvature = "exact"
    damping: float = 1.0
    horizon: int | None = None

    def __post_init__(self) -> None:
        one_of("estimator", self.estimator, get_args(Estimator))
        one_of("curvature", self.curvature, get_args(Curvature))
        if not 0 <= self.damping <= 1:
            raise ValueError(f"damping must lie in [0, 1], got {self.damping}; 1 is the undamped Hessian")
        if self.horizon is not None and not (isinstance(self.horizon, (int, np.integer)) and self.horizon >= 0):
            raise ValueError(f"horizon must be an integer ≥ 0, or None for the end of the run, got {self.horizon!r}")

    def curvature_product(self, run: Run, t: int, theta: Any, directions: Any) -> Any:
        """γ H_t V (q, p) at θ_t."""
        if self.curvature == "none" or self.damping == 0:
            return 0.0 * directions
        product = run.objective.hvp if self.curvature == "exact" else run.objective.ggn
        return self.damping * product(theta, run.batches[t], run.weights(t), directions)

    def view(self, run: Run) -> Run:
        """The run that the estimator believes in."""
        return as_sgd(run) if self.estimator == "sgd" else run


@dataclass(frozen=True, eq=False)
class Contribution:
    """The influence (b, q) of removing each of `samples` (b,) at one step, presence sign."""

    step: int
    samples: Array
    influence: Array


def reverse_sweep(run: Run, query: Query, settings: Settings, convention: Convention) -> Iterator[Contribution]:
    """Contributions of the steps T−1 … 0: −⟨x̄_{t+1}, δx_{t+1}⟩, with x̄ the adjoint of the run.

    x̄_T = (∂f/∂θ, 0, …);  (x̄_t, ḡ_t) = F_tᵀ x̄_{t+1};  θ̄_t += γ H_t ḡ_t. Every read-out point θ_r has an adjoint of
    its own (without a horizon there is one, r = T); those in use at one time are propagated as one block.
    """
    run = settings.view(run)
    reach = run.steps if settings.horizon is None else settings.horizon
    adjoints: dict[int, State] = {}  # r → x̄_{t+1}, each part (q, p)
    ahead: list[tuple[Moment, dict[int, State]]] = []  # steps t+1, t+2, … and their r → x̄_{t+2}, x̄_{t+3}, …
    for t in reversed(range(run.steps)):
        here, readout = moment(run, t), min(run.steps, t + 1 + reach)
        if t + 1 == run.steps or t >= reach:
            adjoints[t + 1] = _read_out(run, query, t + 1)
        before, slopes = _pull_back(here, adjoints)
        frozen = ahead[: frozen_steps(settings.estimator, t, readout - t - 1)]
        path = _Path(
            [moment for moment, _ in frozen],
            [adjoints[readout], *(after[readout] for _, after in frozen)],
            slopes[readout],
        )
        yield _contribution(run, t, here, path, settings.estimator, convention)
        live = [r for r in adjoints if r <= t + reach and t > 0]
        ahead = [(here, adjoints), *ahead][: frozen_steps(settings.estimator, t - 1, run.steps)]
        curved = _curvature(run, t, here.state[0], settings, {r: slopes[r] for r in live})
        adjoints = {r: (before[r][0] + curved[r], *before[r][1:]) for r in live}


@dataclass(frozen=True, eq=False)
class _Path:
    """What a change at step t meets on its way to its read-out point."""

    following: list[Moment]  # the frozen steps
    adjoints: list[State]  # x̄_{t+1}, and one more for each frozen step
    slope: Any  # ḡ_t


def _read_out(run: Run, query: Query, t: int) -> State:
    theta, *slots = run.state(t)
    xp = array_namespace(theta)
    slope = xp.astype(query.slope(theta), theta.dtype)
    return (slope, *(xp.zeros_like(slope) for _ in slots))


def _pull_back(here: Moment, adjoints: dict[int, State]) -> tuple[dict[int, State], dict[int, Any]]:
    """F_tᵀ of every adjoint: x̄ without the curvature's part, and ḡ."""
    stacked = tuple(_stack(parts) for parts in zip(*adjoints.values(), strict=True))
    before, slope = here.step.adjoint(here.state, here.gradient, stacked)
    parts = [_split(part, len(adjoints)) for part in before]
    return (
        dict(zip(adjoints, zip(*parts, strict=True), strict=True)),
        dict(zip(adjoints, _split(slope, len(adjoints)), strict=True)),
    )


def _curvature(run: Run, t: int, theta: Any, settings: Settings, slopes: dict[int, Any]) -> dict[int, Any]:
    if not slopes:
        return {}
    product = settings.curvature_product(run, t, theta, _stack(tuple(slopes.values())))
    return dict(zip(slopes, _split(product, len(slopes)), strict=True))


def _stack(blocks: Sequence[Any]) -> Any:
    return blocks[0] if len(blocks) == 1 else array_namespace(blocks[0]).concat(list(blocks), axis=0)


def _split(block: Any, count: int) -> list[Any]:
    size = block.shape[0] // count
    return [block[k * size : (k + 1) * size] for k in range(count)]


def _contribution(
    run: Run, t: int, here: Moment, path: _Path, estimator: Estimator, convention: Convention
) -> Contribution:
    theta, batch = here.state[0], run.batches[t]
    samples, counts = np.unique(batch, return_counts=True)
    convention.refuse_empty(t, batch, len(batch) - counts.max(), f"sample {samples[counts.argmax()]}")
    rows = max(1, CHUNK // (theta.shape[0] * theta.dtype.itemsize))
    blocks = []
    for first in range(0, len(samples), rows):
        part = slice(first, first + rows)
        xi = write_in(run, t, here, samples[part], counts[part], convention)
        blocks.append(-as_numpy(_change(here, path, estimator, xi)))
    return Contribution(t, samples, np.concatenate(blocks))


def write_in(run: Run, t: int, here: Moment, samples: Array, counts: Array, convention: Convention) -> Any:
    """ξ_i (b, p) of each of `samples`, which step t's batch holds `counts` times."""
    theta = here.state[0]
    copies = array_namespace(theta).asarray(counts, dtype=theta.dtype, device=device(theta))
    gradients = run.objective.sample_gradients(theta, samples)
    return convention.write_in(here.gradient, gradients, copies, len(run.batches[t]))


def _change(here: Moment, path: _Path, estimator: Estimator, xi: Any) -> Any:
    """What ξ (b, p) changes at the read-out point, (b, q)."""
    if estimator in ("first-order", "sgd"):
        return xi @ path.slope.T
    changes = push(estimator, here, path.following, xi)
    return sum(_inner(change, adjoint) for change, adjoint in zip(changes, path.adjoints, strict=True))


def _inner(change: Change, adjoint: State) -> Any:
    return sum(part @ to.T for part, to in zip(change, adjoint, strict=True) if part is not None)
