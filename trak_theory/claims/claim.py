"""A claim: what is predicted, what is measured, and the verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from numpy.typing import ArrayLike

from trak_theory.numerics.estimate import Estimate

Kind = Literal["identity", "bound", "expansion", "limit"]
Function = Callable[[Any], object]  # of a case
Domain = Callable[[Generator], object]

IDENTITY_TOLERANCE = 1e-9  # relative to the largest entry; rounding of well-conditioned problems stays far below
ORDER_TOLERANCE = 0.1
Z_LIMIT = 4.0


@dataclass(frozen=True)
class Claim:
    """A statement that the code must live up to.

    name       unique, in words
    kind       identity   predict(case) = measure(case), entry by entry, up to rounding
               bound      measure(case) ≤ predict(case), entry by entry
               expansion  measure(case) is an `Estimate` of the order predict(case), within 0.1
               limit      measure(case) is an `Estimate` of predict(case), within 4 standard errors
    statement  LaTeX
    source     T or D (the two papers), ours, or the background paper
    domain     rng → a random case; its docstring says where the claim is tested
    """

    name: str
    kind: Kind
    statement: str
    source: str
    predict: Function
    measure: Function
    domain: Domain

    def check(self, rng: Generator) -> Entry:
        """Draw a case, predict, measure and judge."""
        case = self.domain(rng)
        verdict = _JUDGES[self.kind](self.predict(case), self.measure(case))
        return Entry(self.name, self.kind, self.source, self.statement, str(self.domain.__doc__), *verdict)


@dataclass(frozen=True)
class Entry:
    """One line of the ledger.

    predicted, measured   identity: root mean squares; bound: 1 and the largest lhs/rhs; else the numbers themselves
    uncertainty           standard error (expansion, limit); relative difference (identity); slack 1 − lhs/rhs (bound)
    """

    name: str
    kind: Kind
    source: str
    statement: str
    domain: str
    predicted: float
    measured: float
    uncertainty: float
    holds: bool


Verdict = tuple[float, float, float, bool]


def _identity(predicted: ArrayLike, measured: ArrayLike) -> Verdict:
    predicted, measured = np.broadcast_arrays(np.asarray(predicted, float), np.asarray(measured, float))
    scale = np.abs(predicted).max() or 1.0
    difference = float(np.abs(measured - predicted).max() / scale)
    return _rms(predicted), _rms(measured), difference, difference <= IDENTITY_TOLERANCE


def _bound(predicted: ArrayLike, measured: ArrayLike) -> Verdict:
    predicted, measured = np.broadcast_arrays(np.asarray(predicted, float), np.asarray(measured, float))
    holds = bool(np.all(measured <= predicted))
    ratio = float(np.max(measured / np.maximum(predicted, np.finfo(float).tiny)))
    return 1.0, ratio, 1.0 - ratio, holds


def _expansion(predicted: float, measured: Estimate) -> Verdict:
    return predicted, measured.value, measured.se, abs(measured.value - predicted) <= ORDER_TOLERANCE


def _limit(predicted: float, measured: Estimate) -> Verdict:
    holds = measured.se > 0 and abs(measured.value - predicted) <= Z_LIMIT * measured.se
    return float(predicted), measured.value, measured.se, holds


def _rms(array: Array) -> float:
    return float(np.sqrt(np.mean(array**2)))


_JUDGES: dict[Kind, Callable[..., Verdict]] = {
    "identity": _identity,
    "bound": _bound,
    "expansion": _expansion,
    "limit": _limit,
}


def identity(name: str, statement: str, predict: Function, measure: Function, domain: Domain) -> Claim:
    """An identity derived here."""
    return Claim(name, "identity", statement, "ours", predict, measure, domain)


def limit(name: str, statement: str, predict: Function, measure: Function, domain: Domain) -> Claim:
    """A limit derived here."""
    return Claim(name, "limit", statement, "ours", predict, measure, domain)
