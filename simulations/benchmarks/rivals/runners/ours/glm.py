"""This project's leave-one-out influence of a fitted GLM on the outputs of queries, presence sign."""

from __future__ import annotations

from typing import Any

from numpy import ndarray as Array

from simulations.benchmarks.rivals.contract import serve
from trak_theory import GLM, influence, leave_one_out, newton


def work(arrays: dict[str, Array], settings: dict[str, Any]) -> dict[str, Array]:
    """settings: loss, method (exact, newton or influence). The fit is counted."""
    features, targets, queries = arrays["features"], arrays["targets"], arrays["queries"]
    fit = GLM(features, targets, loss=settings["loss"], ridge=arrays["ridge"]).fit()
    if settings["method"] == "exact":
        return {"influence": leave_one_out(fit, queries).influence}
    score = newton if settings["method"] == "newton" else influence
    return {"influence": score(fit.linearize(queries))}


if __name__ == "__main__":
    serve(work, "numpy")
