"""Paired gains of one way of training over another, replicate by replicate, with their intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from trak_theory.numerics.estimate import mean
from trak_theory.numerics.tensor import Tensor

LEVEL = 0.95


@dataclass(frozen=True)
class Gain:
    """The mean of paired differences, reference − loss (positive: better), with its Student interval."""

    mean: float
    se: float
    low: float
    high: float
    pairs: int

    @property
    def differs(self) -> bool:
        """True if the interval leaves out zero."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        interval = f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"
        return interval if self.differs else f"no difference ({interval})"


def paired_gain(losses: Tensor, reference: Tensor, *, comparisons: int = 1) -> Gain:
    """The gain of `losses` over `reference`, replicate by replicate; pairs with a NaN are left out.

    95 % two-sided, for all of `comparisons` such intervals together (Bonferroni).
    """
    differences = np.asarray(reference, float) - np.asarray(losses, float)
    differences = differences[~np.isnan(differences)]
    if differences.size < 2:
        raise ValueError(f"a paired interval needs at least 2 replicates, got {differences.size}")
    gain = mean(differences)
    width = float(stdtrit(differences.size - 1, 1 - (1 - LEVEL) / (2 * comparisons))) * gain.se
    return Gain(gain.value, gain.se, gain.value - width, gain.value + width, differences.size)
