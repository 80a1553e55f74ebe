"""The adjoint of a run: how what is read off its end depends on an earlier state, carried back step by step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.optimizer.steps import State
from trak_theory.trajectory.sweep.blocks import blocks, empty, zeros
from trak_theory.trajectory.sweep.push import RecordedStep, StateChange


class Adjoint:
    """x̄_{t+1} = ∂f(θ_r)/∂x_{t+1} of every read-out point r in use, as rows: q for each, the largest r first.

    thetas       θ̄_{t+1}, θ̄_{t+2}, …, θ̄_{t+1+k} (rows, p), with zeros in those after θ̄_r
    slots        the slots of x̄_{t+1+k} (rows, p): those of x̄_{t+k} … x̄_{t+1} follow from them elementwise
    following    the k steps t+1 … t+k

    k is the estimator's number of frozen steps, fewer near the end of the run. A row takes k more vectors than a state.
    """

    def __init__(self, state: State) -> None:
        theta, *slots = (empty((0, part.shape[-1]), part) for part in state)
        self.points: list[int] = []
        self.thetas: list[Tensor] = [theta]
        self.slots: list[Tensor] = slots
        self.following: list[RecordedStep] = []

    def restore(self, points: Sequence[int], arrays: Sequence[Tensor], following: Sequence[RecordedStep]) -> None:
        """As it was: `arrays` are its `thetas` and its `slots`."""
        split = len(arrays) - len(self.slots)
        self.points, self.following = list(points), list(following)
        self.thetas, self.slots = list(arrays[:split]), list(arrays[split:])

    def read_out(self, point: int, slope: Tensor) -> None:
        """Add x̄_r = (∂f/∂θ, 0, …), r = t + 1; slope (q, p)."""
        q = len(slope)
        self.thetas = [_grown(part, q) for part in self.thetas]
        self.thetas[0][-q:] = slope
        del slope  # before the slots grow
        self.slots = [_grown(part, q) for part in self.slots]
        self.points.append(point)

    def rows(self, points: Sequence[int]) -> list[int]:
        """Places of the rows of these points, in the order given."""
        q = len(self.thetas[0]) // max(1, len(self.points))
        return [self.points.index(r) * q + k for r in points for k in range(q)]

    def inner(self, changes: Iterable[StateChange], rows: slice, block: slice) -> Tensor:
        """Σ ⟨x̄, δx⟩ over a block of coordinates of the changes (b, block) of x_{t+1}, x_{t+2}, …: (b, rows)."""
        total: Tensor = 0.0
        for j, (theta, *slots) in enumerate(changes):
            total = total + theta @ self.thetas[j][rows, block].T
            if j == len(self.following):  # the points read come before the last state, where their slots are zero
                total = total + sum(part @ own[rows, block].T for part, own in zip(slots, self.slots, strict=True))
        return total

    def pull_back(
        self, here: RecordedStep, frozen: int, live: Sequence[int], at_once: int
    ) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
        """From t + 1 to t in place, at most `at_once` rows at a time: the rows, ḡ_t and θ̄_t, each (rows, p).

        (x̄_t, ḡ_t) = F_tᵀ x̄_{t+1};  the caller adds H_t ḡ_t to the θ̄_t that it is given. Points that are not in `live`
        are dropped at the end and have None for θ̄_t. k grows to at most `frozen`.
        """
        full = len(self.thetas) > frozen  # then the last θ̄ is not needed any more and makes room for the new one
        before = self.thetas[-1] if full else empty(self.thetas[0].shape, self.thetas[0])
        for rows, stays in self._groups(live, at_once):
            slope = self._slope(here, frozen, rows, before)
            yield rows, slope, before[rows] if stays else None
        self.thetas = [before, *self.thetas][: frozen + 1]
        self.following = [here, *self.following][:frozen]
        self._keep(live)

    def _slope(self, here: RecordedStep, frozen: int, rows: slice, before: Tensor) -> Tensor:
        """ḡ_t of some rows; writes θ̄_t without its curvature to `before`, and the slots of the last state kept."""
        last = min(len(self.following), frozen - 1)  # whose slots, if not those of x̄_t, are kept from now on

        count, p = rows.stop - rows.start, before.shape[-1]
        slope = empty((count, p), before)
        for block in here.step.blocks(count, p):
            own: State = tuple(slot[rows, block] for slot in self.slots)
            slots = own
            for j in range(len(self.following), 0, -1):
                cotangent = (self.thetas[j][rows, block], *slots)
                slots = self._slots(self.following[j - 1].part(block), cotangent, own if j - 1 == last else None)
            part, cotangent = here.part(block), (self.thetas[0][rows, block], *slots)
            if last < 0:
                (theta, *before_slots), slope[:, block] = part.step.adjoint(part.state, part.gradient, cotangent)
                self._write(before_slots, rows, block)
            else:
                theta, _ = part.step.adjoint_ends(part.state, part.gradient, cotangent, slope[:, block])
            before[rows, block] = theta
        if here.step.clip_norm is not None:
            along = (slope @ here.gradient)[:, None]
            for block in blocks(count, p):
                slope[:, block] = here.clipping.slope(here.gradient[block], slope[:, block], along)
        return slope

    @staticmethod
    def _slots(part: RecordedStep, cotangent: State, into: State | None) -> State:
        """Of the adjoint before a step, on a block of coordinates."""
        return part.step.adjoint_slots(part.state, part.gradient, cotangent, into)

    def _write(self, slots: Sequence[Tensor], rows: slice, block: slice) -> None:
        for slot, new in zip(self.slots, slots, strict=True):
            slot[rows, block] = new

    def _groups(self, live: Sequence[int], at_once: int) -> Iterator[tuple[slice, bool]]:
        """Rows of points that all stay or all go, and whether they stay."""
        for stays, points in groupby(self.points, lambda r: r in live):
            rows = self.rows(list(points))
            for first in range(rows[0], rows[-1] + 1, at_once):
                yield slice(first, min(first + at_once, rows[-1] + 1)), stays

    def _keep(self, live: Sequence[int]) -> None:
        if len(live) == len(self.points):
            return
        rows = self.rows(live)
        self.thetas = [part[rows] for part in self.thetas]
        self.slots = [part[rows] for part in self.slots]
        self.points = list(live)


def _grown(part: Tensor, rows: int) -> Tensor:
    """With rows of zeros below."""
    grown = zeros((len(part) + rows, part.shape[-1]), part)
    grown[: len(part)] = part
    return grown
