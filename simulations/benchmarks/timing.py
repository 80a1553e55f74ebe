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
    (timing,) = side_by_side(run, repeats=repeats)
    return timing


def side_by_side(*runs: Callable[[], object], repeats: int) -> list[Timing]:
    """Time the runs in turn, A B A B …: a drift of the machine meets them all. The first round is not counted."""
    seconds = np.array([[_seconds(run) for run in runs] for _ in range(repeats + 1)])[1:]
    return [Timing(float(np.median(own)), float(own.min()), float(own.max())) for own in seconds.T]


def _seconds(run: Callable[[], object]) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start


def machine() -> str:
    return f"{cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}"
