"""Rankings when points differ in leverage: elliptical rows c_i g_i."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator
from scipy.stats import lognorm

from simulations.engine.study import Params, Rows, Study, grid
from simulations.studies.laws.rank_law import MEASURES, QUERIES, draw
from trak_theory import agreement, influence
from trak_theory.laws.rank_law import RankLaw, rank_law_of
from trak_theory.laws.state_evolution import state_evolution

SIGNAL, P_OVER_N, RIDGE_OVER_N, K_OVER_P = 1.5, 0.4, 0.02, 0.75
LOSSES = ("logistic", "squared")
DATA_SPREADS = (0.0, 0.25, 0.5, 0.75, 1.0)  # standard deviation of log c, with E c² = 1
LAW_SPREADS = tuple(step / 8 for step in range(9))


def run(params: Params, rng: Generator) -> Rows:
    """TRAK and the influence function at one spread of leverage: the law, or one data set."""
    n, spread = int(params["n"]), float(params["spread"])
    design: dict[str, Any] = {
        "n": n,
        "p": round(P_OVER_N * n),
        "ridge": RIDGE_OVER_N * n,
        "signal": SIGNAL,
        "loss": str(params["loss"]),
    }
    k = round(K_OVER_P * design["p"])
    shared = {"p": design["p"], "k": k, "ridge": design["ridge"], "signal": SIGNAL, "queries": QUERIES}
    if params["part"] == "law":
        scales = lognorm(spread, scale=np.exp(-(spread**2))) if spread > 0 else None
        law = rank_law_of(state_evolution(**design, scales=scales), k=k)
        assert law.influence is not None
        return [{**shared, **_row("trak", law)}, {**shared, **_row("influence", law.influence)}]
    data = draw(**design, scales=np.exp(spread * rng.standard_normal(n) - spread**2), rng=rng)
    trak = data.measure(k=k, projected_ridge=0.0, ensemble=1, rng=rng)
    first = agreement(data.truth, influence(data.fit.linearize(data.queries)))
    return [
        {**shared, "score": "trak", **trak, "outlier": data.outlier},
        {**shared, "score": "influence", **{name: float(getattr(first, name)) for name in MEASURES}},
    ]


def _row(score: str, law: RankLaw) -> dict[str, Any]:
    """The law, and the Kendall that equal leverage would give for the same Pearson."""
    equal = float(2 / np.pi * np.arcsin(law.pearson))
    return {"score": score, **{name: getattr(law, name) for name in MEASURES}, "equal_leverage_kendall": equal}


def cells(n: int, replicates: int) -> list[Params]:
    data = grid(n=[n], loss=LOSSES, spread=DATA_SPREADS, part=["data"], replicate=range(replicates))
    return data + grid(n=[n], loss=LOSSES, spread=LAW_SPREADS, part=["law"], replicate=[0])


SUMMARY = "What becomes of the ranking when points differ in leverage: elliptical rows?"
STUDY = Study("leverage", SUMMARY, run, quick=cells(400, 3), full=cells(400, 6) + cells(1500, 12), seconds=0.12)
