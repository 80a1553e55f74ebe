"""Expansions: the orders at which leave-one-out series go wrong, on data copied m times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from trak_theory.claims.claim import Claim
from trak_theory.claims.problems import Case, draw_glm, replicated
from trak_theory.loo.series import infinitesimal_jackknife, newton_expansion
from trak_theory.numerics.estimate import mean

COPIES = (4, 8, 16, 32)
DATA_SETS = 4

Series = Callable[[Case], Array]


@dataclass(frozen=True, eq=False)
class Replication:
    """Cases with m = 4 … 32 copies of the same data, and the exact influence of one copy of each point."""

    cases: tuple[Case, ...]
    exact: tuple[Array, ...]

    def slope(self, series: Series) -> float:
        """Log-log slope of ‖series − exact‖ in m."""
        errors = [
            np.linalg.norm(one_copy(series(case)) - exact) for case, exact in zip(self.cases, self.exact, strict=True)
        ]
        return float(np.polyfit(np.log(COPIES), np.log(errors), 1)[0])


def one_copy(influence: Array) -> Array:
    """The rows that stand for one copy of each point."""
    return influence[len(influence) // 2 :]


def replication(loss: str) -> Callable[[Generator], list[Replication]]:
    """The domain of replicated data sets with this loss."""

    def domain(rng: Generator) -> list[Replication]:
        sets = []
        for child in rng.spawn(DATA_SETS):
            data = draw_glm(loss, n=100, p=5, ridge=0.5, rng=child)
            cases = tuple(replicated(loss, m, data, ridge=0.5) for m in COPIES)
            sets.append(Replication(cases, tuple(one_copy(case.exact().influence) for case in cases)))
        return sets

    domain.__doc__ = f"{loss} loss, n = 100, p = 5, each point 4 to 32 times, {DATA_SETS} data sets; one copy removed"
    return domain


def jackknife(order: int) -> Series:
    return lambda case: infinitesimal_jackknife(case.fit, case.queries, order=order)


def newton_series(order: int) -> Series:
    return lambda case: newton_expansion(case.fit, case.queries, order=order)


def _claim(loss: str, name: str, series: Series, order: float, source: str) -> Claim:
    return Claim(
        name=f"order of {name}, {loss}",
        kind="expansion",
        statement=rf"\|I^{{\mathrm{{{name}}}}} - I\| = O(m^{{{order:.0f}}})",
        source=source,
        predict=lambda sets: order,
        measure=lambda sets: mean([one.slope(series) for one in sets]),
        domain=replication(loss),
    )


SERIES: dict[str, tuple[Series, float, str]] = {
    **{f"IJ-{s}": (jackknife(s), -(s + 1.0), "Giordano et al. 2019") for s in (1, 2, 3)},
    "newton": (newton_series(1), -2.0, "Rad & Maleki 2020"),
    "newton with second-order term": (newton_series(2), -3.0, "ours"),
}

CLAIMS = [
    _claim(loss, name, series, order, source)
    for loss in ("logistic", "poisson")
    for name, (series, order, source) in SERIES.items()
]
