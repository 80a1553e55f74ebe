"""Anderson acceleration of many fixed-point iterations at once."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array


class Anderson:
    """Anderson acceleration of a batch of fixed-point iterations, each row with a memory of its own.

    The next point is where the step would vanish if it were affine in the point, on the span of the last few changes.
    """

    DEPTH = 4
    REGULARISATION = 1e-12  # relative to the trace: the changes become parallel near the fixed point

    def __init__(self) -> None:
        self._last: tuple[Array, Array] | None = None  # point and step
        self._changes: list[Array] = []  # of the step, newest first, (b, m) each
        self._shifts: list[Array] = []  # of point + step
        self._gram = np.zeros((0, 0, 0))  # of the changes, (b, a, a)

    def keep(self, rows: Array) -> None:
        """Go on with these rows only."""
        if self._last is not None:
            self._last = self._last[0][rows], self._last[1][rows]
        self._changes = [change[rows] for change in self._changes]
        self._shifts = [shift[rows] for shift in self._shifts]
        self._gram = self._gram[rows] if self._changes else self._gram

    def next(self, points: Array, steps: Array) -> Array:
        """The next points (b, m), from the current ones and their fixed-point steps."""
        if self._last is not None:
            self._remember(points - self._last[0], steps - self._last[1])
        self._last = points, steps
        following = points + steps
        if self._changes:
            mixing = self._mixing(steps).astype(points.dtype)
            for k, shift in enumerate(self._shifts):
                following -= mixing[:, k, None] * shift
        return following

    def _remember(self, move: Array, change: Array) -> None:
        self._changes = [change, *self._changes[: self.DEPTH - 1]]
        self._shifts = [move + change, *self._shifts[: self.DEPTH - 1]]
        products, kept = self._against(change), len(self._changes) - 1
        gram = np.empty((len(change), kept + 1, kept + 1))
        gram[:, 0, :] = gram[:, :, 0] = products
        gram[:, 1:, 1:] = self._gram[:, :kept, :kept] if kept else 0.0
        self._gram = gram

    def _against(self, vectors: Array) -> Array:
        """The products of `vectors` (b, m) with every change, (b, a)."""
        return np.stack([np.einsum("bm,bm->b", change, vectors) for change in self._changes], axis=1).astype(float)

    def _mixing(self, steps: Array) -> Array:
        """The combination of past changes (b, a) nearest to `steps`; double precision and scaled, never singular."""
        trace = np.trace(self._gram, axis1=1, axis2=2)
        size = np.where(trace > 0, trace, 1.0)[:, None]
        gram = self._gram / size[..., None] + self.REGULARISATION * np.eye(len(self._changes))
        return np.linalg.solve(gram, (self._against(steps) / size)[..., None])[..., 0]
