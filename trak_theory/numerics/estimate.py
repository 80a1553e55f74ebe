"""A measured number and its standard error: the only place where a mean gets one."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


class Estimate(float):
    """A number that carries its standard error `se`, NaN where there is none.

    >>> found = Estimate(0.5, 0.1)
    >>> found, found + 1, found.se
    (0.5 ± 0.1, 1.5, 0.1)
    """

    se: float

    def __new__(cls, value: float, se: float) -> Estimate:
        estimate = super().__new__(cls, value)
        estimate.se = float(se)
        return estimate

    @property
    def value(self) -> float:
        return float(self)

    def __repr__(self) -> str:
        return f"{float(self):.4g} ± {self.se:.2g}"

    def __reduce__(self) -> tuple[type[Estimate], tuple[float, float]]:
        return Estimate, (float(self), self.se)


def mean(values: ArrayLike) -> Estimate:
    """x̄ ± s/√N over the N independent finite values; the error is NaN for N = 1, and both are for N = 0.

    >>> mean([1.0, 2.0, 3.0, float("nan")])
    2 ± 0.58
    """
    array = np.asarray(values, float)
    kept = array[np.isfinite(array)]
    if kept.size == 0:
        return Estimate(np.nan, np.nan)
    error = kept.std(ddof=1) / np.sqrt(kept.size) if kept.size > 1 else np.nan
    return Estimate(float(kept.mean()), error)
