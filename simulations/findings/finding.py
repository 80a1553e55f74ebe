"""A finding: a number that a study's results must show, and the verdict on where its whole interval lies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from simulations.findings.measures import Measured

Relation = Literal["=", "≥", "≤"]
Verdict = Literal["holds", "FAILS", "unclear", "mixed"]


@dataclass(frozen=True)
class Finding:
    """One claim of a study.

    study      whose results it reads
    statement  in words, with the quantity that is measured; {learning_rate:g} is filled in with the setting
    source     T or D where the paper's thesis (not its numbers) is what is tested, else ours
    relation   of the measured number to `predicted`; = means: within ± tolerance
    measure    the study's rows → what they show
    tolerance  of =
    by         columns whose every combination of values is judged alone
    discussion why it fails or is unclear, for claims that are
    at_full    the same of the full size, where the reason is another
    """

    study: str
    statement: str
    source: str
    relation: Relation
    predicted: float
    measure: Callable[[pd.DataFrame], Measured]
    tolerance: float = 0.0
    by: tuple[str, ...] = ()
    discussion: str = ""
    at_full: str = ""

    def judge(self, rows: pd.DataFrame) -> list[Judged]:
        """One verdict for each setting, in the order of the rows."""
        return [self._judge(part, setting) for setting, part in self._settings(rows)]

    def _settings(self, rows: pd.DataFrame) -> Iterator[tuple[Mapping[str, Any], pd.DataFrame]]:
        if not self.by:
            yield {}, rows
            return
        for values, part in rows.groupby(list(self.by), sort=False):
            yield dict(zip(self.by, values, strict=True)), part

    def _judge(self, rows: pd.DataFrame, setting: Mapping[str, Any]) -> Judged:
        statement = self.statement.format_map(setting)
        found = self.measure(rows)
        if not np.isfinite(found.value):
            raise ValueError(f"{self.study}: {statement!r} measured {found.value}")
        return Judged(self, statement, found, self._verdict(found))

    def _verdict(self, found: Measured) -> Verdict:
        if {self._where(part) for part in found.parts} >= {"holds", "FAILS"}:
            return "mixed"
        return self._where(found)

    def _where(self, found: Measured) -> Verdict:
        """By where the whole interval lies: inside the band, outside of it, or across its edge."""
        low = self.predicted - self.tolerance if self.relation != "≤" else -np.inf
        high = self.predicted + self.tolerance if self.relation != "≥" else np.inf
        if low <= found.low and found.high <= high:
            return "holds"
        return "FAILS" if found.high < low or found.low > high else "unclear"


@dataclass(frozen=True)
class Judged:
    """A finding in one setting, with what was measured there.

    verdict  holds, FAILS: the whole interval lies on one side; unclear: it does not; mixed: it holds in some of the
             settings that the number is a mean over, and fails in others
    """

    finding: Finding
    statement: str
    found: Measured
    verdict: Verdict
