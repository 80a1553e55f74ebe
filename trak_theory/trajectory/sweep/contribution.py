"""What one step of a run contributes to an influence."""

from __future__ import annotations

from dataclasses import dataclass

from numpy import ndarray as Array


@dataclass(frozen=True, eq=False)
class Contribution:
    """The influence (b, q) of removing each of `samples` (b,) at one step, presence sign."""

    step: int
    samples: Array
    influence: Array
