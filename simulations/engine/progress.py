"""Progress of a run: a bar in a terminal, a line every half minute elsewhere, with an estimate that corrects itself."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Event, Lock, Thread

from tqdm import tqdm

EVERY = 30.0  # seconds between two lines
BAR = "{desc}: {percentage:3.0f}%|{bar}|{postfix}"  # in expected seconds, not cells

Say = Callable[[str], object]


class Progress:
    """Work done on some cells and work left, in seconds that correct themselves study by study.

    `expected` gives the seconds that each study says its cells take. Once cells of a study are finished, what is left
    of it is scaled by the seconds they took over those expected; a study without any takes the scale of all. The pace
    is the seconds of work finished in a second of the clock, `workers` before the first cell.
    """

    def __init__(self, expected: Mapping[str, list[float]], workers: float) -> None:
        self._left = {study: sum(seconds) for study, seconds in expected.items()}
        self._expected: dict[str, float] = defaultdict(float)
        self._taken: dict[str, float] = defaultdict(float)
        self._workers = workers
        self._begun = time.monotonic()
        self._lock = Lock()
        self.cells, self.finished, self.failed = sum(map(len, expected.values())), 0, 0

    def finish(self, study: str, expected: float, taken: float, failed: bool) -> None:
        with self._lock:
            self._left[study] -= expected
            self._expected[study] += expected
            self._taken[study] += taken
            self.finished += 1
            self.failed += failed

    def remaining(self) -> float:
        """Seconds until the last cell, as far as can be told by now."""
        with self._lock:
            work = sum(self._scale(study) * left for study, left in self._left.items())
            gone, taken = time.monotonic() - self._begun, sum(self._taken.values())
            return work / (taken / gone if taken else self._workers)

    def _scale(self, study: str) -> float:
        of = [study] if study in self._expected else list(self._expected)
        expected = sum(self._expected[name] for name in of)
        return sum(self._taken[name] for name in of) / expected if expected else 1.0

    def line(self) -> str:
        gone = duration_text(time.monotonic() - self._begun)
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.finished}/{self.cells} cells{failed}, {gone} gone, about {duration_text(self.remaining())} left"

    @contextmanager
    def shown(self, title: str, say: Say) -> Iterator[Callable[[], None]]:
        """Show it until the block ends; yields what to call after every `finish`."""
        if sys.stderr.isatty():
            with tqdm(desc=title, total=sum(self._left.values()), bar_format=BAR) as bar:
                yield lambda: self._draw(bar)
            return
        ended = Event()
        thread = Thread(target=self._report, args=(title, say, ended), daemon=True)
        thread.start()
        try:
            yield lambda: None
        finally:
            ended.set()
            thread.join()

    def _draw(self, bar: tqdm) -> None:
        bar.n = sum(self._expected.values())
        bar.set_postfix_str(self.line())

    def _report(self, title: str, say: Say, ended: Event) -> None:
        while not ended.wait(EVERY):
            say(f"{title}: {self.line()}")


def duration_text(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
