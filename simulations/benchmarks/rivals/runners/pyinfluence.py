"""Influence functions of pyinfluence for a logistic regression, on the linear output of queries, presence sign."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from numpy import ndarray as Array

from simulations.benchmarks.rivals.contract import serve

package: Any = import_module("pyinfluence")
linear: Any = import_module("sklearn.linear_model")


def work(arrays: dict[str, Array], settings: dict[str, Any]) -> dict[str, Array]:
    """No settings. Column 0 of the features is the intercept, which has no ridge. The fit is counted."""
    rows, targets, queries = arrays["features"][:, 1:], arrays["targets"], arrays["queries"][:, 1:]
    model = linear.LogisticRegression(C=1 / float(arrays["ridge"][1]), solver="newton-cholesky", tol=1e-10)
    attributor = package.InfluenceFunctions(mode="prediction").fit(model.fit(rows, targets), rows, targets)
    probability = model.predict_proba(queries)[:, 1]
    # It scores the probability, whose slope in the linear output is p(1 − p).
    return {"influence": (attributor.explain(queries) / (probability * (1 - probability))[:, None]).T}


if __name__ == "__main__":
    serve(work, "pyinfluence", "scikit-learn")
