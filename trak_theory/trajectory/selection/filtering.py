"""The loss filter: leave out the candidates with the largest losses, as many as are thought to be wrong."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy import ndarray as Array

REMEMBERED = 10  # steps whose estimates of the wrong share are averaged


class WrongShare:
    """The share of wrong candidates, from their losses and those of clean samples.

    π̂ = 1 − 2 P(candidate loss < median of the clean losses), averaged over the last steps and cut to [0, 1]: right
    where wrong samples have losses above that median, 0 before the network tells them from others. A mixture's lower
    half is (1 − π)/2 then (ours).
    """

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=REMEMBERED)

    def update(self, losses: Array, clean: Array) -> float:
        self._seen.append(1 - 2 * float(np.mean(losses < np.median(clean))))
        return float(np.clip(np.mean(self._seen), 0.0, 1.0))


def filtered(losses: Array, wrong: float, order: Array) -> Array:
    """Scores (c,) of which the lowest are kept: `order` in [0, 1), and above 1 for the share `wrong` of largest losses.

    Among these the lower losses come first, should more be kept than the filter leaves.
    """
    rank = np.argsort(np.argsort(losses, kind="stable"), kind="stable")
    out = rank >= len(losses) - round(wrong * len(losses))
    return np.where(out, 1.0 + rank, order)
