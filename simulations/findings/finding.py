"""A finding: a number that a study's results must show, and the verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from trak_theory.numerics.estimate import Estimate, mean

Relation = Literal["=", "≥", "≤"]
Z = 2.0  # standard errors of doubt about a measured number


@dataclass(frozen=True)
class Finding:
    """One claim of a study.

    study      whose results it reads; its figure has the same name
    statement  in words, with the quantity that is measured
    source     T or D where the paper's thesis (not its numbers) is what is tested, else ours
    relation   of the measured number to `predicted`, up to `tolerance`
    measure    the study's rows → an `Estimate`; its standard error is NaN where there is one measurement only
    discussion why it fails or is unclear, for claims that are
    """

    study: str
    statement: str
    source: str
    relation: Relation
    predicted: float
    measure: Callable[[pd.DataFrame], Estimate]
    tolerance: float = 0.0
    discussion: str = ""

    def judge(self, rows: pd.DataFrame) -> Judged:
        found = self.measure(rows)
        if not np.isfinite(found.value):
            raise ValueError(f"{self.study}: {self.statement!r} measured {found.value}")
        distance = {
            "=": abs(found.value - self.predicted),
            "≥": self.predicted - found.value,
            "≤": found.value - self.predicted,
        }[self.relation]
        doubt = Z * found.se if np.isfinite(found.se) else 0.0
        beyond = distance - self.tolerance
        if self.relation == "=":
            verdict = "holds" if beyond <= doubt else "FAILS"
        else:
            verdict = "holds" if beyond <= -doubt else ("FAILS" if beyond > doubt else "unclear")
        return Judged(self, found, verdict)


@dataclass(frozen=True)
class Judged:
    """A finding with what was measured: it holds, fails, or is unclear within two standard errors."""

    finding: Finding
    found: Estimate
    verdict: str


def number(value: Any) -> Estimate:
    """A single number, without a standard error of its own."""
    return Estimate(float(value), float("nan"))


def contrast(rows: pd.DataFrame, by: str, first: Any, second: Any, value: str, over: list[str]) -> Estimate:
    """Mean of value(by = first) − value(by = second), paired over the cells `over`."""
    table = rows[rows[by].isin([first, second])].pivot_table(value, over, by)
    return mean(table[first] - table[second])


def law_gap(rows: pd.DataFrame, setting: list[str], value: str = "kendall") -> Estimate:
    """Mean over settings of |law − mean over data sets|: the law's error, and the noise of few data sets with it."""
    law = rows[rows["part"] == "law"].groupby(setting)[value].mean()
    data = rows[rows["part"] == "data"].groupby(setting)[value].mean()
    return mean((law - data).dropna().abs())
