"""Effect of the spectrum of the features on the gain from more projected dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.studies.laws.rank_grid import spectrum_of
from simulations.studies.laws.rank_law import QUERIES, draw, law_row
from trak_theory.laws.rank_law import rank_law_of
from trak_theory.laws.state_evolution import state_evolution

SIGNAL = 2.0
P_OVER_N, RIDGE_OVER_N, PROJECTED_RIDGE_OVER_N = 1.6, 0.02, 0.001
COVARIANCES = ("isotropic", "decay 0.8", "decay 1.2", "spiked", "dominant")
DATA_STEPS = (0.04, 0.1, 0.2, 0.4, 0.6, 0.8, 0.96)  # k / n
LAW_STEPS = (0.01, 0.02, *np.linspace(0.04, 0.96, 24).round(2).tolist())


def run(params: Params, rng: Generator) -> Rows:
    """All k for one spectrum: the law on a fine grid, or one data set on a coarse one."""
    n = int(params["n"])
    p = round(P_OVER_N * n)
    design: dict[str, Any] = {
        "n": n,
        "p": p,
        "ridge": RIDGE_OVER_N * n,
        "signal": SIGNAL,
        "spectrum": spectrum_of(str(params["covariance"]), p),
    }
    setting: dict[str, Any] = {"projected_ridge": PROJECTED_RIDGE_OVER_N * n, "ensemble": 1}
    plain = {name: value for name, value in design.items() if name not in ("n", "spectrum")}
    shared = {**plain, **setting, "queries": QUERIES}
    if params["part"] == "law":
        state = state_evolution(**design)
        laws = ((round(step * n), rank_law_of(state, k=round(step * n), **setting)) for step in LAW_STEPS)
        return [{**shared, "k": k, **law_row(law)} for k, law in laws]
    data = draw(**design, rng=rng)
    sizes = [round(step * n) for step in DATA_STEPS]
    return [{**shared, "k": k, **data.measure(k=k, **setting, rng=rng), "outlier": data.outlier} for k in sizes]


def cells(n: int, replicates: int) -> list[Params]:
    data = grid(n=[n], covariance=COVARIANCES, part=["data"], replicate=range(replicates))
    return data + grid(n=[n], covariance=COVARIANCES, part=["law"], replicate=[0])


SUMMARY = "Effect of the spectrum of the features on the gain from more projected dimensions."
STUDY = Study("spectrum", SUMMARY, run, quick=cells(300, 2), full=cells(300, 4) + cells(1000, 8), seconds=0.5)
