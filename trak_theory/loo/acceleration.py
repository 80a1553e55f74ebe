"""Anderson acceleration of many fixed-point iterations at once."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array


class Anderson:
    """Anderson acceleration of a batch of fixed-point iterations, each row with a memory of its own."""

    DEPTH = 5
    REGULARISATION = 1e-12  # relative to the trace: the differences become parallel near the fixed point

    def __init__(self) -> None:
        self._history: list[tuple[Array, Array]] = []  # (points, steps), newest first

    def keep(self, rows: Array) -> None:
        """Go on with these rows only."""
        self._history = [(points[rows], steps[rows]) for points, steps in self._history]

    def next(self, points: Array, steps: Array) -> Array:
        """The next points (b, m), from the current ones and their fixed-point steps."""
        history, self._history = self._history, [(points, steps), *self._history[: self.DEPTH - 1]]
        if not history:
            return points + steps
        moves = np.stack([points - old for old, _ in history])
        changes = np.stack([steps - old for _, old in history])
        mixing = self._mixing(changes, steps)
        return points + steps - np.einsum("ba,abm->bm", mixing.astype(points.dtype), moves + changes)

    def _mixing(self, changes: Array, steps: Array) -> Array:
        """The combination of past changes (b, a) nearest to `steps`; double precision and scaled, never singular."""
        gram = np.einsum("abm,cbm->bac", changes, changes).astype(float)
        target = np.einsum("abm,bm->ba", changes, steps).astype(float)
        trace = np.trace(gram, axis1=1, axis2=2)
        size = np.where(trace > 0, trace, 1.0)[:, None]
        gram = gram / size[..., None] + self.REGULARISATION * np.eye(len(changes))
        return np.linalg.solve(gram, (target / size)[..., None])[..., 0]
