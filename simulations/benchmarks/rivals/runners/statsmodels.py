"""One-step deletion influence of statsmodels' GLM (no ridge) on the linear output of queries, presence sign."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from numpy import ndarray as Array

from simulations.benchmarks.rivals.contract import serve

api: Any = import_module("statsmodels.api")
FAMILIES = {"poisson": "Poisson", "logistic": "Binomial"}


def work(arrays: dict[str, Array], settings: dict[str, Any]) -> dict[str, Array]:
    """settings: loss. The fit is counted."""
    family = getattr(api.families, FAMILIES[settings["loss"]])()
    fitted = api.GLM(arrays["targets"], arrays["features"], family=family).fit(tol=1e-12)
    return {"influence": fitted.get_influence().d_params @ arrays["queries"].T}


if __name__ == "__main__":
    serve(work, "statsmodels")
