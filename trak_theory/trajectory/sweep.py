"""The reverse sweep: one pass back through the run gives every sample's influence on a block of queries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
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
    """Contributions of the steps T−1 … 0, each read off θ_{t+1+K}, or θ_T where the run ends before."""
    reach = run.steps if settings.horizon is None else settings.horizon
    readouts = {t: [min(run.steps, t + 1 + reach)] for t in range(run.steps)}
    return sweep_from(run, query, settings, convention, readouts)


def sweep_from(
    run: Run, query: Query, settings: Settings, convention: Convention, readouts: Mapping[int, Sequence[int]]
) -> Iterator[Contribution]:
    """Contributions −⟨x̄_{t+1}, δx_{t+1}⟩ of the steps t of `readouts`, last step first; x̄ is the adjoint of the run.

    readouts: t → the points r > t in ascending order at which step t is read off; influence (b, len(readouts[t]) · q).
    x̄_r = (∂f/∂θ, 0, …);  (x̄_t, ḡ_t) = F_tᵀ x̄_{t+1};  θ̄_t += γ H_t ḡ_t. Every read-out point θ_r has an adjoint of
    its own; those in use at one time are propagated as one block.
    """
    run = settings.view(run)
    earliest = {r: t for t in sorted(readouts, reverse=True) for r in readouts[t]}
    adjoints: dict[int, State] = {}  # r → x̄_{t+1}, each part (q, p)
    ahead: list[tuple[Moment, dict[int, State]]] = []  # steps t+1, t+2, … and their r → x̄_{t+2}, x̄_{t+3}, …
    for t in reversed(range(max(earliest))):
        here = moment(run, t)
        if t + 1 in earliest:
            adjoints[t + 1] = _read_out(run, query, t + 1)
        before, slopes = _pull_back(here, adjoints)
        if t in readouts:
            paths = _paths(run, t, readouts[t], settings.estimator, adjoints, ahead, slopes)
            yield _contribution(run, t, here, paths, settings.estimator, convention)
        live = [r for r in adjoints if earliest[r] < t]
        ahead = [(here, adjoints), *ahead][: frozen_steps(settings.estimator, run.age(t - 1), run.steps)]
        curved = _curvature(run, t, here.state[0], settings, {r: slopes[r] for r in live})
        adjoints = {r: (before[r][0] + curved[r], *before[r][1:]) for r in live}


@dataclass(frozen=True, eq=False)
class _Path:
    """What a change at step t meets on its way to its read-out points, those of one path as one block."""

    following: list[Moment]  # the frozen steps
    adjoints: list[State]  # x̄_{t+1}, and one more for each frozen step
    slope: Any  # ḡ_t


def _paths(
    run: Run,
    t: int,
    points: Sequence[int],
    estimator: Estimator,
    adjoints: dict[int, State],
    ahead: list[tuple[Moment, dict[int, State]]],
    slopes: dict[int, Any],
) -> list[_Path]:
    """One path for the read-out points that leave room for the same number of frozen steps."""
    paths = []
    for count, group in groupby(points, lambda r: frozen_steps(estimator, run.age(t), r - t - 1)):
        block, frozen = list(group), ahead[:count]
        chain = [_blocks(after, block) for after in (adjoints, *(after for _, after in frozen))]
        paths.append(_Path([moment for moment, _ in frozen], chain, _stack([slopes[r] for r in block])))
    return paths


def _read_out(run: Run, query: Query, t: int) -> State:
    theta, *slots = run.state(t)
    xp = array_namespace(theta)
    slope = xp.astype(query.slope(theta), theta.dtype)
    return (slope, *(xp.zeros_like(slope) for _ in slots))


def _pull_back(here: Moment, adjoints: dict[int, State]) -> tuple[dict[int, State], dict[int, Any]]:
    """F_tᵀ of every adjoint: x̄ without the curvature's part, and ḡ."""
    before, slope = here.step.adjoint(here.state, here.gradient, _blocks(adjoints, list(adjoints)))
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


def _blocks(adjoints: dict[int, State], points: Sequence[int]) -> State:
    return tuple(_stack(parts) for parts in zip(*(adjoints[r] for r in points), strict=True))


def _stack(blocks: Sequence[Any]) -> Any:
    return blocks[0] if len(blocks) == 1 else array_namespace(blocks[0]).concat(list(blocks), axis=0)


def _split(block: Any, count: int) -> list[Any]:
    size = block.shape[0] // count
    return [block[k * size : (k + 1) * size] for k in range(count)]


def _contribution(
    run: Run, t: int, here: Moment, paths: list[_Path], estimator: Estimator, convention: Convention
) -> Contribution:
    theta, batch = here.state[0], run.batches[t]
    samples, counts = np.unique(batch, return_counts=True)
    convention.refuse_empty(t, batch, len(batch) - counts.max(), f"sample {samples[counts.argmax()]}")
    rows = max(1, CHUNK // (theta.shape[0] * theta.dtype.itemsize))
    blocks = []
    for first in range(0, len(samples), rows):
        part = slice(first, first + rows)
        xi = write_in(run, t, here, samples[part], counts[part], convention)
        blocks.append(np.concatenate([-as_numpy(_change(here, path, estimator, xi)) for path in paths], axis=1))
    return Contribution(t, samples, np.concatenate(blocks))


def write_in(run: Run, t: int, here: Moment, samples: Array, counts: Array, convention: Convention) -> Any:
    """ξ_i (b, p) of each of `samples`, which step t's batch holds `counts` times."""
    theta = here.state[0]
    copies = array_namespace(theta).asarray(counts, dtype=theta.dtype, device=device(theta))
    gradients = run.objective.sample_gradients(theta, samples)
    return convention.write_in(here.gradient, gradients, copies, len(run.batches[t]))


def _change(here: Moment, path: _Path, estimator: Estimator, xi: Any) -> Any:
    """What ξ (b, p) changes at a path's read-out points, (b, q) for each."""
    if estimator in ("first-order", "sgd"):
        return xi @ path.slope.T
    changes = push(estimator, here, path.following, xi)
    return sum(_inner(change, adjoint) for change, adjoint in zip(changes, path.adjoints, strict=True))


def _inner(change: Change, adjoint: State) -> Any:
    return sum(part @ to.T for part, to in zip(change, adjoint, strict=True) if part is not None)
