"""The reverse sweep: one pass back through the run gives every sample's influence on a block of queries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy import ndarray as Array

from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.convention import Convention, one_of
from trak_theory.trajectory.query import Query
from trak_theory.trajectory.run import Run, as_sgd
from trak_theory.trajectory.sweep.adjoint import Adjoint
from trak_theory.trajectory.sweep.blocks import SMALL
from trak_theory.trajectory.sweep.contribution import Contribution
from trak_theory.trajectory.sweep.derivatives import StepDerivatives
from trak_theory.trajectory.sweep.push import LINEAR, Estimator, RecordedStep, frozen_steps
from trak_theory.trajectory.sweep.removals import Removals
from trak_theory.trajectory.sweep.resume import SweepFolder

Curvature = Literal["exact", "ggn", "none"]
CHUNK = 2**28  # bytes that one step works with beside the states and the adjoint, or what one sample and query take


@dataclass(frozen=True)
class Settings:
    """Settings of an estimate.

    estimator   how a removed sample enters the state, see `push`; "sgd" reads the run as plain SGD's
    curvature   the Hessian that carries a change on: exact, ggn (Gauss–Newton) or none
    damping γ   multiplies that Hessian
    horizon K   a change at step t is read off θ_{t+1+K}; None: off θ_T
    """

    estimator: Estimator = "frozen-push"
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

    def curvature_product(self, run: Run, t: int, theta: Tensor, directions: Tensor) -> Tensor:
        """γ H_t V (q, p) at θ_t."""
        if self.curvature == "none" or self.damping == 0:
            return 0.0 * directions
        product = run.objective.hvp if self.curvature == "exact" else run.objective.ggn
        curved = product(theta, run.batches[t], run.weights(t), directions)
        return curved if self.damping == 1 else self.damping * curved

    @property
    def shares_exact(self) -> bool:
        """Whether Hessian products are exact ones."""
        return self.curvature == "exact" and self.damping > 0

    def view(self, run: Run) -> Run:
        """The run that the estimator believes in."""
        return as_sgd(run) if self.estimator == "sgd" else run


def reverse_sweep(
    run: Run,
    query: Query,
    settings: Settings,
    convention: Convention,
    *,
    candidates: Array | None = None,
    folder: Path | str | None = None,
) -> Iterator[Contribution]:
    """Contributions of the steps T−1 … 0, each read off θ_{t+1+K}, or θ_T where the run ends before.

    candidates: the samples to remove, None: all.
    folder: where the sweep keeps what it has computed, and goes on from where it was ended.
    """
    reach = run.steps if settings.horizon is None else settings.horizon
    readouts = {t: [min(run.steps, t + 1 + reach)] for t in range(run.steps)}
    if folder is None:
        return sweep_from(run, query, settings, convention, readouts, candidates)
    told = (settings, convention, _at_once(run.final), SMALL, None if candidates is None else candidates.tolist())
    kept = SweepFolder(folder, run, settings=told, query=query.slope(run.final))
    return sweep_from(run, query, settings, convention, readouts, candidates, kept)


def sweep_from(
    run: Run,
    query: Query,
    settings: Settings,
    convention: Convention,
    readouts: Mapping[int, Sequence[int]],
    candidates: Array | None = None,
    kept: SweepFolder | None = None,
) -> Iterator[Contribution]:
    """Contributions −⟨x̄_{t+1}, δx_{t+1}⟩ of the steps t of `readouts`, last step first; x̄ is the adjoint of the run.

    candidates: the samples to remove, None: all.
    readouts: t → the points r > t in ascending order at which step t is read off; influence (b, len(readouts[t]) · q).
    x̄_r = (∂f/∂θ, 0, …);  (x̄_t, ḡ_t) = F_tᵀ x̄_{t+1};  θ̄_t += γ H_t ḡ_t. Every read-out point θ_r has an adjoint of
    its own; those in use at one time are propagated as one block, in place.

    Memory, in vectors of p numbers: a state (AdamW: 3) and one for each frozen step of the estimator (two-step: 1), for
    each query and read-out point in use; the gradients of these frozen steps; CHUNK for all else. See `sweep_memory`.
    """
    run = settings.view(run)
    linear = settings.estimator in LINEAR
    samples_at_once, queries_at_once = _at_once(run.final)
    earliest = {r: t for t in sorted(readouts, reverse=True) for r in readouts[t]}
    adjoint, first = Adjoint(run.state(max(earliest))), max(earliest)
    if kept and (found := kept.found(run.final)):
        yield from found.done
        first, count = found.t, len(found.arrays) - len(adjoint.slots) - 1
        adjoint.restore(found.points, found.arrays, [_recorded(run, first + k, settings)[0] for k in range(count)])
    for t in reversed(range(min(readouts), first)):
        (here, derivatives), reading = _recorded(run, t, settings), None
        if t + 1 in earliest:
            adjoint.read_out(t + 1, query.slope(run.state(t + 1)[0]))
        if t in readouts:
            reading = _Reading(
                Removals.of_batch(run, t, here, convention, samples_at_once, candidates), adjoint, readouts[t]
            )
            if not linear:
                reading.push(settings.estimator)
        live = [r for r in adjoint.points if earliest[r] < t]
        frozen = frozen_steps(settings.estimator, run.age(t - 1), run.steps)
        for rows, slope, theta in adjoint.pull_back(here, frozen, live, queries_at_once):
            inner = derivatives.products(slope, onto=theta)
            if linear and reading:
                reading.slope(rows, slope, inner)
            del slope  # before the next segment is replayed
        if reading:
            contribution = reading.contribution
            yield contribution
        if kept and reading:
            kept.add(contribution)
            if kept.is_due(t):
                kept.keep(t, adjoint.points, [*adjoint.thetas, *adjoint.slots])
        del derivatives, reading  # their graph and gradients, before the next segment is replayed


def _recorded(run: Run, t: int, settings: Settings) -> tuple[RecordedStep, StepDerivatives]:
    """Step t, and the derivatives there, which share a pass through the model with its gradient."""
    derivatives = StepDerivatives(run, t, settings)
    return RecordedStep(run.state(t), derivatives.gradient, run.step(t)), derivatives


def _at_once(theta: Tensor) -> tuple[int, int]:
    """`pieces_of` for θ (p,)."""
    return pieces_of(theta.shape[0] * theta.dtype.itemsize)


def pieces_of(vector: int) -> tuple[int, int]:
    """Samples: their gradients fill half of CHUNK, with g and temporaries; queries: ḡ and H ḡ fill the other.

    vector: the bytes of one vector of p.
    """
    vectors = CHUNK // vector
    return max(1, vectors // 2 - 2), max(1, vectors // 4)


class _Reading:
    """The influence (b, rows) of the samples of step t's batch at its read-out points, as the adjoint passes by."""

    def __init__(self, removals: Removals, adjoint: Adjoint, points: Sequence[int]) -> None:
        self.removals, self.adjoint, self.columns = removals, adjoint, adjoint.rows(points)
        self.span = slice(min(self.columns), max(self.columns) + 1)
        self.frozen = max(points) - removals.t - 1
        self.influence = np.zeros((len(removals.samples), self.span.stop))

    def push(self, estimator: Estimator) -> None:
        """−⟨x̄_{t+1}, δx_{t+1}⟩ − … of the exact changes."""
        self.influence[:, self.span] = self.removals.exact(estimator, self.adjoint, self.span, self.frozen)

    def slope(self, rows: slice, slope: Tensor, inner: Tensor | None) -> None:
        """−⟨ḡ_t, ξ⟩ for these rows, where they are read; inner: ⟨ḡ_t, ∇ℓ_i⟩ of the batch, where known."""
        first, stop = max(rows.start, self.span.start), min(rows.stop, self.span.stop)
        if first < stop:
            own = slice(first - rows.start, stop - rows.start)
            self.influence[:, first:stop] = self.removals.linear(slope[own], None if inner is None else inner[own])

    @property
    def contribution(self) -> Contribution:
        return Contribution(self.removals.t, self.removals.samples, self.influence[:, self.columns])
