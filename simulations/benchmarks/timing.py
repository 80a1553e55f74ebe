"""Medians of repeated runs, and the machine that made them."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from os import cpu_count
from time import perf_counter

import numpy as np


@dataclass(frozen=True)
class Timing:
    """Seconds: the median, with the smallest and largest of the runs."""

    median: float
    smallest: float
    largest: float

    def __str__(self) -> str:
        return f"{self.median:.4f} s [{self.smallest:.4f}, {self.largest:.4f}]"


def timed(run: Callable[[], object], *, repeats: int) -> Timing:
    """Time `repeats` runs after one that is not counted."""
    run()
    seconds = []
    for _ in range(repeats):
        start = perf_counter()
        run()
        seconds.append(perf_counter() - start)
    return Timing(float(np.median(seconds)), min(seconds), max(seconds))


def machine() -> str:
    return f"{cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}"
