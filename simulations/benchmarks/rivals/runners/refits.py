"""Leave-one-out by n refits with scikit-learn: the influence on the linear output of queries, presence sign."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from numpy import ndarray as Array

from simulations.benchmarks.rivals.contract import serve

linear: Any = import_module("sklearn.linear_model")
TOL = 1e-10


def work(arrays: dict[str, Array], settings: dict[str, Any]) -> dict[str, Array]:
    """settings: loss. Column 0 of the features is the intercept, which has no ridge; the other ridges are all equal."""
    rows, targets, queries = arrays["features"][:, 1:], arrays["targets"], arrays["queries"][:, 1:]
    ridge = float(arrays["ridge"][1])

    def outputs(kept: Array) -> Array:
        model = _model(settings["loss"], ridge, kept.sum()).fit(rows[kept], targets[kept])
        return queries @ np.ravel(model.coef_) + np.ravel(model.intercept_)

    everyone = np.ones(len(rows), bool)
    full = outputs(everyone)
    return {"influence": np.array([full - outputs(np.arange(len(rows)) != i) for i in range(len(rows))])}


def _model(loss: str, ridge: float, n: int) -> Any:
    if loss == "logistic":
        return linear.LogisticRegression(C=1 / ridge, solver="newton-cholesky", tol=TOL, max_iter=200)
    return linear.PoissonRegressor(alpha=ridge / n, solver="newton-cholesky", tol=TOL, max_iter=200)


if __name__ == "__main__":
    serve(work, "scikit-learn")
