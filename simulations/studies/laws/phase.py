"""Rank agreement over the plane of model size and projected dimension."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.studies.laws.rank_law import QUERIES, SETTINGS, draw
from trak_theory.laws.rank_law import rank_law_of
from trak_theory.laws.state_evolution import state_evolution

SIGNAL, RIDGE_OVER_N = 2.0, 0.02
LAW_N = 100_000  # the law depends on proportions only: at a large n none of them needs rounding
LAW_RATIOS = (*np.geomspace(0.1, 1.0, 13).round(4).tolist(), *np.geomspace(1.0, 4.0, 9)[1:].round(4).tolist())  # p / n
DATA_RATIOS = (0.14, 0.3, 0.65, 1.4, 3.0)
LAW_STEPS = (0.01, *np.linspace(0.04, 0.96, 24).round(2).tolist(), 0.98, 0.995)  # k / its largest value
DATA_STEPS = (0.06, 0.15, 0.3, 0.45, 0.65, 0.85)


def run(params: Params, rng: Generator) -> Rows:
    """All k and settings at one p/n: the law, or one data set."""
    n, ratio = int(params["n"]), float(params["p_over_n"])
    shared = {"signal": SIGNAL, "ridge_over_n": RIDGE_OVER_N, "queries": QUERIES}
    rows = _law(ratio) if params["part"] == "law" else _data(n, ratio, rng)
    return [{**shared, **row} for row in rows]


def _law(ratio: float) -> Rows:
    n, p = LAW_N, round(ratio * LAW_N)
    state = state_evolution(n=n, p=p, ridge=RIDGE_OVER_N * n, signal=SIGNAL)
    rows = []
    for ensemble, ridge in SETTINGS:
        for step in LAW_STEPS:
            k = round(step * (p if ridge > 0 else min(n, p)))
            law = rank_law_of(state, k=k, ensemble=ensemble, projected_ridge=ridge * n)
            rows.append(_row(ensemble, ridge, step, k / p, law.kendall))
    return rows


def _data(n: int, ratio: float, rng: Generator) -> Rows:
    p = round(ratio * n)
    data = draw(n=n, p=p, ridge=RIDGE_OVER_N * n, signal=SIGNAL, rng=rng)
    rows = []
    for ensemble, ridge in SETTINGS:
        for step in DATA_STEPS:
            k = round(step * p)
            if ridge > 0 or k < n:
                found = data.measure(k=k, ensemble=ensemble, projected_ridge=ridge * n, rng=rng)
                rows.append(_row(ensemble, ridge, step, k / p, found["kendall"]))
    return rows


def _row(ensemble: int, ridge: float, step: float, k_over_p: float, kendall: float) -> dict[str, Any]:
    return {
        "ensemble": ensemble,
        "projected_ridge_over_n": ridge,
        "step": step,
        "k_over_p": k_over_p,
        "kendall": kendall,
    }


def cells(n: int, replicates: int) -> list[Params]:
    data = grid(n=[n], p_over_n=DATA_RATIOS[::-1], part=["data"], replicate=range(replicates))
    return data + grid(n=[n], p_over_n=LAW_RATIOS, part=["law"], replicate=[0])


SUMMARY = "Rank agreement over the plane of model size and projected dimension."
STUDY = Study("phase", SUMMARY, run, quick=cells(200, 4)[::3], full=cells(200, 4) + cells(800, 8), seconds=0.7)
