"""Rows of the torch studies about one recorded run: every trajectory estimator against retraining."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy import ndarray as Array

from simulations.engine.study import Rows
from simulations.workloads.remembered import Remembered
from trak_theory.numerics.agreement import agreement, spearman
from trak_theory.trajectory import Query, Run, attribute, error_bound, retrain_without, verdict
from trak_theory.trajectory.reliability.labels import deserved

ESTIMATORS: Mapping[str, Mapping[str, Any]] = {
    "sgd": {"estimator": "sgd"},
    "first-order": {"estimator": "first-order"},
    "exact-push": {"estimator": "exact-push"},
    "two-step": {"estimator": "two-step"},
    "frozen-push": {"estimator": "frozen-push"},
    "two-step, Gauss–Newton": {"estimator": "two-step", "curvature": "ggn"},
    "two-step, no curvature": {"estimator": "two-step", "curvature": "none"},
}


def trajectory_rows(
    run: Run, query: Query, removed: Array, estimators: Mapping[str, Mapping[str, Any]] = ESTIMATORS
) -> Rows:
    """Rows of one run, told apart by `part`; `removed` (m,) are the samples that are retrained without, one by one.

    estimator   one per entry of `estimators`: its agreement with the truth, mean over queries
    sample      one per removed sample: truth, first order and two-step push of the first query, the half-width of the
                calibrated bound, and the proxy of first order, |two-step − first order|
    run         one: verdict and true class of two-step, coverage of its bound, how well the proxies rank the errors
                and hit them within a factor of two, and the null effect: how far the retraining's own code
                ends from the recorded θ_T with nobody removed, in median |truth|
    """
    truth = retrain_without(run, removed[:, None])
    exact = truth.influence(query)
    shared = {"n": run.objective.n, "p": run.objective.p, "steps": run.steps, "removed": len(removed)}
    shared["batch"] = len(run.batches[0])
    run = replace(run, objective=Remembered(run.objective))  # the sweeps of one run ask for the same derivatives
    found = {name: attribute(run, query, **settings) for name, settings in estimators.items()}
    rows: Rows = [
        {**shared, "part": "estimator", "estimator": name, **agreement(exact, truth.matching(attribution)).row()}
        for name, attribution in found.items()
    ]
    first, best = (truth.matching(found[name]) for name in ("first-order", "two-step"))
    width = error_bound(found["two-step"])[removed]
    for k, sample in enumerate(removed.tolist()):
        values = {"truth": exact[k, 0], "first_order": first[k, 0], "two_step": best[k, 0], "half_width": width[k, 0]}
        rows.append({**shared, "part": "sample", "sample": sample, **{name: float(v) for name, v in values.items()}})
    said, quality = verdict(found["two-step"]), agreement(exact, best)
    rows.append(
        {
            **shared,
            "part": "run",
            "free_label": said.label,
            "true_label": deserved(quality.spearman, quality.relative_error),
            "sensitivity": said.sensitivity,
            "coverage": float(np.mean(np.abs(exact - best) <= width)),
            "null_effect": null_effect(run, query, exact),
            **_proxy_quality("first_order", np.abs(best - first), np.abs(exact - first)),
            **_proxy_quality("two_step", found["two-step"].proxy[removed], np.abs(exact - best)),
        }
    )
    return rows


def null_effect(run: Run, query: Query, exact: Array) -> float:
    """|f(θ_T) − f(θ_T repeated)|/median |truth|, mean over queries."""
    state = tuple(part[None] for part in run.state(0))
    for t, batch in enumerate(run.batches):
        state = run.step(t)(state, run.objective.gradient(state[0], batch, run.weights(t)[None]))
    change = np.abs(query.read(run.final) - query.read(state[0][0]))
    return float(np.mean(change / np.median(np.abs(exact), axis=0)))


def _proxy_quality(name: str, proxy: Array, error: Array) -> dict[str, float]:
    seen = (error > 0) & (proxy > 0)
    return {
        f"{name}_proxy_spearman": float(np.mean([spearman(e, s) for e, s in zip(error.T, proxy.T, strict=True)])),
        f"{name}_proxy_within_two": float(np.mean(np.abs(np.log2(proxy[seen] / error[seen])) < 1)),
    }
