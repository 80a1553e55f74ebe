"""Medians of repeated runs, and the machine that made them."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from os import cpu_count
from time import perf_counter, process_time

import numpy as np


@dataclass(frozen=True)
class Timing:
    """Seconds: the median, with the smallest and largest of the runs."""

    median: float
    smallest: float
    largest: float

    def __str__(self) -> str:
        return f"{self.median:.4f} s [{self.smallest:.4f}, {self.largest:.4f}]"


def timed(run: Callable[[], object], *, repeats: int, clock: Callable[[], float] = perf_counter) -> Timing:
    """Time `repeats` runs after one that is not counted."""
    (timing,) = side_by_side(run, repeats=repeats, clock=clock)
    return timing


def side_by_side(*runs: Callable[[], object], repeats: int, clock: Callable[[], float] = perf_counter) -> list[Timing]:
    """Time the runs in turn, A B A B …: a drift of the machine meets them all. The first round is not counted.

    `clock`: wall time, or with `process_time` the processor time of all threads, which other processes disturb less.
    """
    seconds = np.array([[_seconds(run, clock) for run in runs] for _ in range(repeats + 1)])[1:]
    return [Timing(float(np.median(own)), float(own.min()), float(own.max())) for own in seconds.T]


def clock_of(threads: int) -> Callable[[], float]:
    """Processor time of one thread, wall time of several."""
    return process_time if threads == 1 else perf_counter


def _seconds(run: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    run()
    return clock() - start


def machine() -> str:
    return f"{cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}"
