"""Ceiling of the linear datamodelling score, and its relation to leave-one-out fidelity."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from scipy.stats import rankdata

from simulations.engine.study import Params, Rows, Study, grid
from simulations.studies.laws.rank_law import QUERIES, DataSet, draw
from trak_theory import drop_ridge, influence, trak, unit_curvature
from trak_theory.laws.lds_law import lds_law

SIGNAL, NOISE, FRACTION, SUBSETS = 1.0, 1.0, 0.5, 1000
DESIGNS = ((0.2, 0.0), (0.2, 0.1), (2.0, 0.1))  # p / n, ridge / n
DATA_RIDGES = (0.003, 0.02, 0.1, 0.4, 1.5, 6.0)  # scoring ridge / n
LAW_RIDGES = tuple(np.geomspace(0.002, 10.0, 30).round(5).tolist())
DATA_STEPS = (0.1, 0.3, 0.5, 0.7, 0.9)  # k / min(n, p)
LAW_STEPS = tuple(np.linspace(0.02, 0.98, 25).round(2).tolist())


def run(params: Params, rng: Generator) -> Rows:
    """Every score's LDS for one least-squares design: the law, or one data set."""
    n, p = int(params["n"]), round(float(params["p_over_n"]) * int(params["n"]))
    ridge = float(params["ridge_over_n"]) * n
    shared: dict[str, Any] = {
        "p": p,
        "ridge": ridge,
        "signal": SIGNAL,
        "noise": NOISE,
        "queries": QUERIES,
        "subsets": SUBSETS,
    }
    rows = _law(n, p, ridge) if params["part"] == "law" else _data(n, p, ridge, rng)
    return [{**shared, **row} for row in rows]


def _law(n: int, p: int, ridge: float) -> Rows:
    """Pearson, and the Spearman correlation that it means for normal outputs."""

    def row(score: str, at: float, value: float) -> dict[str, Any]:
        return {"score": score, "at": at, "lds": value, "spearman": float(6 / np.pi * np.arcsin(value / 2))}

    def law(k: int, scoring_ridge: float | None = None) -> Any:
        return lds_law(
            n=n, p=p, k=k, ridge=ridge, signal=SIGNAL, noise=NOISE, fraction=FRACTION, scoring_ridge=scoring_ridge
        )

    first = law(1)
    rows = [row("ceiling", 0.0, first.ceiling), row("exact", 0.0, first.exact)]
    rows += [row("kernel", step, law(1, step * n).kernel) for step in LAW_RIDGES]
    sizes = [round(step * min(n, p)) for step in LAW_STEPS]
    return rows + [row("trak", k / min(n, p), law(k).trak) for k in dict.fromkeys(sizes) if k > 0]


def _data(n: int, p: int, ridge: float, rng: Generator) -> Rows:
    data = draw(n=n, p=p, ridge=ridge, signal=SIGNAL, loss="squared", noise=NOISE, rng=rng)
    members, outputs = retrain(data, ridge, rng)
    lin = data.fit.linearize(data.queries)
    kernel = unit_curvature(lin)
    scores = [("exact", 0.0, data.truth)]
    scores += [("kernel", step, influence(drop_ridge(kernel, ridge=step * n))) for step in DATA_RIDGES]
    scores += [("trak", step, trak(lin, k=round(step * min(n, p)), rng=rng)) for step in DATA_STEPS]
    rows: Rows = [{"score": "ceiling", "at": 0.0, "lds": explained(members, outputs)}]
    for score, at, values in scores:
        predicted = members @ values
        ranks = (np.apply_along_axis(rankdata, 0, array) for array in (predicted, outputs))
        rows.append({"score": score, "at": at, "lds": correlation(predicted, outputs), "spearman": correlation(*ranks)})
    return rows


def retrain(data: DataSet, ridge: float, rng: Generator) -> tuple[Array, Array]:
    """Membership (M, n) in random subsets of αn points, and the outputs (M, q) of least squares with ridge αλ there."""
    features, targets = data.fit.glm.features, data.fit.glm.targets
    n, p = features.shape
    members, outputs = np.zeros((SUBSETS, n)), np.empty((SUBSETS, len(data.queries)))
    for member, output in zip(members, outputs, strict=True):
        chosen = rng.choice(n, round(FRACTION * n), replace=False)
        member[chosen] = 1.0
        rows, labels, decay = features[chosen], targets[chosen], FRACTION * ridge
        if p <= len(chosen):
            coef = np.linalg.solve(rows.T @ rows + decay * np.eye(p), rows.T @ labels)
        else:
            coef = rows.T @ np.linalg.solve(rows @ rows.T + decay * np.eye(len(chosen)), labels)
        output[:] = data.queries @ coef
    return members, outputs


def correlation(predicted: Array, outputs: Array) -> float:
    """Mean over queries of the Pearson correlation over subsets."""
    a, b = (array - array.mean(0) for array in (predicted, outputs))
    return float(np.mean((a * b).sum(0) / np.sqrt((a**2).sum(0) * (b**2).sum(0))))


def explained(members: Array, outputs: Array) -> float:
    """√ of the adjusted R² of outputs on membership: the ceiling, without the optimism of the regression."""
    inside = members - members.mean(0)
    centred = outputs - outputs.mean(0)
    rank = members.shape[1] - 1  # subsets of equal size
    left = centred - inside @ np.linalg.lstsq(inside, centred, rcond=1e-10)[0]
    share = 1.0 - (left**2).sum(0) / (SUBSETS - 1 - rank) / ((centred**2).sum(0) / (SUBSETS - 1))
    return float(np.mean(np.sqrt(np.maximum(share, 0.0))))


def cells(n: int, replicates: int) -> list[Params]:
    designs: list[dict[str, Any]] = [{"n": n, "p_over_n": p, "ridge_over_n": ridge} for p, ridge in DESIGNS[::-1]]
    parts: list[Params] = [*grid(part=["data"], replicate=range(replicates)), {"part": "law", "replicate": 0}]
    return [{**design, **part} for design in designs for part in parts]


SUMMARY = "Ceiling of the linear datamodelling score, and its relation to leave-one-out fidelity."
STUDY = Study("lds_law", SUMMARY, run, quick=cells(200, 4), full=cells(200, 4) + cells(500, 8), seconds=0.3)
