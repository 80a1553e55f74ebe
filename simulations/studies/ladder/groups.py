"""Growth of the errors of group Newton and of summed influence with the group, the points and the dimension."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.workloads.data import gaussian_problem
from trak_theory import group_influence, group_newton, leave_group_out

GROUPS = 30  # random groups of each data set
RIDGE_PER_POINT, SIGNAL = 0.05, 1.0
FIXED = 10  # d where it does not grow with n
MEASURES = ("newton", "difference", "additive")


@dataclass(frozen=True)
class Regime:
    """Sizes (n, d, m) along one axis."""

    axis: str
    sizes: tuple[tuple[int, int, int], ...]

    def steps(self) -> Iterator[tuple[int, int, int, int]]:
        for n, d, m in self.sizes:
            yield {"n": n, "m": m}[self.axis], n, d, m


REGIMES = {
    "n, d = 10": Regime("n", tuple((n, FIXED, 1) for n in (200, 400, 800, 1600))),
    "n, d = n/2": Regime("n", tuple((n, n // 2, 1) for n in (100, 200, 400, 800))),
    "m, d = 10": Regime("m", tuple((1600, FIXED, m) for m in (1, 2, 4, 8, 16, 32, 64))),
    "m, d = n/2": Regime("m", tuple((400, 200, m) for m in (1, 2, 4, 8, 16, 32))),
}


def run(params: Params, rng: Generator) -> Rows:
    """One data set of every size: mean norms of errors of the coefficients over groups, and their exponents.

    newton: ‖group Newton − exact‖; difference: ‖summed influence − group Newton‖; additive: ‖summed influence − exact‖.
    slope over all sizes; first_slope and last_slope between the two smallest and the two largest.
    """
    regime, rows = REGIMES[str(params["regime"])], []
    sizes, errors = [], []
    for (size, n, d, m), child in zip(regime.steps(), rng.spawn(len(regime.sizes)), strict=True):
        found = _errors(n, d, m, child)
        sizes.append(size)
        errors.append(list(found.values()))
        rows += [{"size": size, "n": n, "d": d, "m": m, "measure": name, "error": e} for name, e in found.items()]
    slopes = {name: _slopes(np.array(sizes), np.array(errors)[:, i]) for i, name in enumerate(MEASURES)}
    return [{**row, **slopes[str(row["measure"])]} for row in rows]


def _errors(n: int, d: int, m: int, rng: Generator) -> dict[str, float]:
    ridge = RIDGE_PER_POINT * n
    problem = gaussian_problem(n=n, p=d, queries=1, loss="logistic", ridge=ridge, signal=SIGNAL, rng=rng)
    groups = [rng.choice(n, m, replace=False) for _ in range(GROUPS)]
    fit = problem.glm().fit()
    coordinates = np.eye(d)
    lin, exact = fit.linearize(coordinates), leave_group_out(fit, groups, coordinates).influence
    newton, additive = group_newton(lin, groups), group_influence(lin, groups)
    gaps = (newton - exact, additive - newton, additive - exact)
    return {name: float(np.linalg.norm(gap, axis=1).mean()) for name, gap in zip(MEASURES, gaps, strict=True)}


def _slopes(sizes: Array, errors: Array) -> dict[str, float]:
    x, y = np.log(sizes), np.log(errors)
    first, last = np.diff(y)[[0, -1]] / np.diff(x)[[0, -1]]
    return {"slope": float(np.polyfit(x, y, 1)[0]), "first_slope": float(first), "last_slope": float(last)}


STUDY = Study(
    name="groups",
    summary="Exponents of the errors of group Newton and of summed influence in n, in the group and in d/n.",
    run=run,
    quick=grid(regime=list(REGIMES), replicate=range(3)),
    full=grid(regime=list(REGIMES), replicate=range(20)),
    seconds=0.3,
)
