"""Error of the kernel machine of a two-layer network beside that of every other rung, and its prediction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from scipy.stats import rankdata, spearmanr

from simulations.engine.study import Params, Rows, Study, grid
from trak_theory import agreement
from trak_theory.shallow import (
    Queries,
    ShallowFit,
    ShallowLadder,
    TwoLayer,
    certify,
    full_hessian_rungs,
    leave_one_out,
    left_basin,
    linearize,
    predict_linearisation_error,
    remainder_bound,
    retrain,
    shallow_ladder,
)
from trak_theory.shallow.truth import without

QUERIES = 30
RETRAINED = 12  # points retrained from the start, to see which basin they end in
K_OVER_P = 0.5
TEACHER_INPUTS, TEACHER_UNITS = 6, 4
COMPONENTS = 16  # principal components of the digits

# Each axis of the teacher data moves alone, from here.
CENTRE: dict[str, Any] = {"data": "teacher", "n": 150, "width": 12, "ridge": 5.0, "noise": 0.3}
AXES: dict[str, tuple[Any, ...]] = {
    "width": (4, 12, 36),
    "ridge": (1.0, 5.0, 25.0),
    "noise": (0.1, 0.3, 0.9),
    "n": (75, 150, 300),
}
REAL_POINTS = 120
REAL = {"diabetes": (2.0, 10.0), "breast_cancer": (0.5, 2.0), "digits": (0.5, 2.0)}  # ridges


@dataclass(frozen=True, eq=False)
class NetworkProblem:
    """inputs (n, d), targets (n,), loss by name, query inputs (q, d) and query targets (q,)."""

    inputs: Array
    targets: Array
    loss: str
    query_inputs: Array
    query_targets: Array

    def model(self, **options: Any) -> TwoLayer:
        if self.loss == "softmax":
            options["classes"] = int(max(self.targets.max(), self.query_targets.max())) + 1
        return TwoLayer(self.inputs, self.targets, loss=self.loss, **options)

    def queries(self, fit: ShallowFit) -> Queries:
        return fit.at(self.query_inputs, self.query_targets if self.loss == "softmax" else None)


def network_problem(name: str, *, n: int, noise: float, rng: Generator) -> NetworkProblem:
    """A data set split at random into n training points and QUERIES query points, inputs standardised on the former.

    teacher: x ~ N(0, I₆), y = a tanh network of 4 units with standard deviation 1, plus N(0, noise²).
    diabetes (targets in standard deviations, squared), breast_cancer (logistic), digits (16 principal components of
    mean variance 1, softmax): real, `noise` unused.
    """
    if name == "teacher":
        inputs, targets = _teacher(n + QUERIES, noise, rng)
        loss = "squared"
    else:
        load, loss = LOADERS[name]
        inputs, targets = load()
        chosen = rng.permutation(len(targets))[: n + QUERIES]
        inputs, targets = inputs[chosen], targets[chosen]
        inputs = _standardised(inputs, n)
        if name == "digits":
            axes = np.linalg.svd(inputs[:n], full_matrices=False)[2][:COMPONENTS]
            inputs = inputs @ axes.T
            inputs /= inputs[:n].std()
    if loss == "squared":
        targets = (targets - targets[:n].mean()) / targets[:n].std()
    return NetworkProblem(inputs[:n], targets[:n], loss, inputs[n:], targets[n:])


def _teacher(count: int, noise: float, rng: Generator) -> tuple[Array, Array]:
    inputs = rng.standard_normal((count, TEACHER_INPUTS))
    hidden = rng.standard_normal((TEACHER_UNITS, TEACHER_INPUTS))
    signal = np.tanh(inputs @ hidden.T) @ rng.choice([-1.0, 1.0], TEACHER_UNITS)
    return inputs, signal / signal.std() + noise * rng.standard_normal(count)


def _standardised(inputs: Array, n: int) -> Array:
    spread = inputs[:n].std(0)
    varies = spread > 1e-12 * np.abs(inputs[:n]).max(0)
    return (inputs[:, varies] - inputs[:n, varies].mean(0)) / spread[varies]


def _sklearn(name: str) -> Callable[[], tuple[Array, Array]]:
    def load() -> tuple[Array, Array]:
        from sklearn import datasets

        data = getattr(datasets, f"load_{name}")()
        return data.data, data.target.astype(float)

    return load


LOADERS: dict[str, tuple[Callable[[], tuple[Array, Array]], str]] = {
    "diabetes": (_sklearn("diabetes"), "squared"),
    "breast_cancer": (_sklearn("breast_cancer"), "logistic"),
    "digits": (_sklearn("digits"), "softmax"),
}


def run(params: Params, rng: Generator) -> Rows:
    """One network: every rung, the predicted linearisation error, the certified bound, and the basins."""
    splitting, starting, projecting, choosing = rng.spawn(4)
    problem = network_problem(str(params["data"]), n=int(params["n"]), noise=float(params["noise"]), rng=splitting)
    model = problem.model(width=int(params["width"]), ridge=float(params["ridge"]))
    fit = model.fit(model.initial(starting))
    queries = problem.queries(fit)
    p = fit.theta.size
    climb = shallow_ladder(fit, queries, k=round(K_OVER_P * p), ridge=model.ridge, rng=projecting)
    shared = {
        "p": p,
        "queries": QUERIES,
        "loss": problem.loss,
        "dead_units": len(fit.dead_units),
        "unresolved": len(climb.truth.unresolved),
        "rms_residual": float(np.sqrt(np.mean(fit.model.head.residual(fit.outputs) ** 2))),
        "smallest_eigenvalue": fit.certificate.smallest_eigenvalue,
    }
    parts = [
        *({"part": "rung", **row} for row in _rungs(fit, queries, climb)),
        {"part": "prediction", **_prediction(fit, queries, climb)},
        {"part": "bound", **_bound(fit, queries, climb)},
        {"part": "basin", **_basins(fit, queries, choosing)},
    ]
    return [{**shared, **part} for part in parts]


def _rungs(fit: ShallowFit, queries: Queries, climb: ShallowLadder) -> list[dict[str, Any]]:
    """The ladder's table without its ensemble of one, the rungs that keep the full Hessian, and those that fail."""
    exact = climb.rungs["exact"]
    side = [
        {"rung": name, "against": "exact", **agreement(exact, rung).row()}
        for name, rung in full_hessian_rungs(fit, queries).items()
    ]
    missing = [{"rung": rung, "against": "exact", "unavailable": why} for rung, why in climb.unavailable.items()]
    return [row for row in climb.table() + side + missing if row["rung"] != "ensemble"]


def _prediction(fit: ShallowFit, queries: Queries, climb: ShallowLadder) -> dict[str, Any]:
    """The predicted error of the kernel machine against the true one, and the trivial predictors of its size."""
    machine = climb.rungs["kernel machine"]
    error = climb.rungs["exact"] - machine
    prediction = predict_linearisation_error(fit, queries)
    kept = prediction.trusted & np.isfinite(error).all(1)
    block = linearize(fit, queries)
    leverage = block.lin.leverage.reshape(-1, block.classes).sum(1)[kept]
    columns = [np.abs(array[kept]).T for array in (error, prediction.total, machine)]
    partial = [partial_spearman(e, f, (m, leverage)) for e, f, m in zip(*columns, strict=True)]
    influence = [spearmanr(e, m).statistic for e, _, m in zip(*columns, strict=True)]
    high = [spearmanr(e, leverage).statistic for e in columns[0]]
    return {
        "trusted": float(np.mean(prediction.trusted)),
        "trusted_error": float(np.sum(error[kept] ** 2) / np.nansum(error**2)),
        "indefinite": float(np.mean(np.isnan(prediction.ratio))),
        "partial_spearman": float(np.mean(partial)),
        "spearman_influence": float(np.mean(influence)),
        "spearman_leverage": float(np.mean(high)),
        **agreement(error[kept], prediction.total[kept]).row(),
        "kendall_all": float(agreement(error, prediction.total).kendall),
    }


def partial_spearman(one: Array, two: Array, given: tuple[Array, ...]) -> float:
    """Correlation of the ranks of `one` and `two` after a linear fit on the ranks of `given`."""
    basis = np.column_stack([np.ones(len(one)), *map(rankdata, given)])
    left = [ranks - basis @ np.linalg.lstsq(basis, ranks, rcond=None)[0] for ranks in (rankdata(one), rankdata(two))]
    return float(np.corrcoef(left)[0, 1])


def _bound(fit: ShallowFit, queries: Queries, climb: ShallowLadder) -> dict[str, Any]:
    """½ sup‖∇²g‖ ‖Δ‖² with ‖Δ‖ certified at the minimum found, and before any refit; violations are counted."""
    truth = climb.truth
    left = np.abs(truth.influence - climb.rungs["linear output"])
    bound = np.array([remainder_bound(queries, fit.theta, distance) for distance in truth.distance])
    before = [certify(fit.objective, fit.theta, without(len(left), i)).radius for i in range(len(left))]
    known = np.isfinite(bound) & (left > 0)
    return {
        "certified_after": float(np.mean(np.isfinite(truth.distance))),
        "certified_before": float(np.mean(np.isfinite(before))),
        "violations": int(np.sum(left > bound + truth.radius)),
        "median_slack": float(np.median(bound[known] / left[known])),
    }


def _basins(fit: ShallowFit, queries: Queries, rng: Generator) -> dict[str, Any]:
    """Warm-started against retrained from the start, on some points."""
    rows = np.sort(rng.choice(len(fit.outputs), RETRAINED, replace=False))
    warm, again = leave_one_out(fit, queries, rows=rows), retrain(fit, queries, rows=rows)
    return {
        "retrained": RETRAINED,
        "left_basin": float(np.mean(left_basin(warm, again))),
        **agreement(warm.influence, again.influence).row(),
    }


def cells(replicates: int) -> list[Params]:
    moved = [CENTRE | {axis: value} for axis, values in AXES.items() for value in values]
    once = [setting for place, setting in enumerate(moved) if setting not in moved[:place]]
    pairs = [(name, ridge) for name, ridges in REAL.items() for ridge in ridges]
    real = [CENTRE | {"data": name, "n": REAL_POINTS, "ridge": ridge} for name, ridge in pairs]
    return [setting | {"replicate": r} for setting in real + once for r in range(replicates)]


STUDY = Study(
    name="linearisation",
    summary="How wrong is the kernel machine of a two-layer network, and can its error be predicted?",
    run=run,
    quick=cells(1)[3:8:4],
    full=cells(6) + grid(data=["teacher"], n=[500], width=[32], ridge=[5.0], noise=[0.3], replicate=range(2)),
    seconds=lambda params: 40 if params["n"] == 500 else 8,
)
