"""An audit of TRAK scores of a digits network: what it predicts against what fresh projections do."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.workloads.digits_mlp import PAPER_RECIPE, digits_network
from trak_theory import Linearization, agreement, influence, project
from trak_theory.attribution import trak_kernel
from trak_theory.auditing.audit import audit
from trak_theory.numerics.estimate import mean
from trak_theory.projection.matrices import projection_matrix
from trak_theory.retraining.ridge_rule import TrainingRecipe

RECIPE = TrainingRecipe(PAPER_RECIPE.weight_decay, PAPER_RECIPE.learning_rates, momentum=PAPER_RECIPE.momentum)


def run(params: Params, rng: Generator) -> Rows:
    """One network and setting: predicted and measured agreement with the same-γ kernel, overlap, interval coverage."""
    building, drawing = rng.spawn(2)
    n, draws, k = int(params["n"]), int(params["draws"]), int(params["k"])
    model = digits_network(n=n, hidden=int(params["hidden"]), queries=int(params["queries"]), rng=building)
    lin = model.margin_linearization()
    value = float(params["regularization"])
    settings = {"k": k, "ridge": value, "package": "dattri", "recipe": RECIPE, "fraction": 0.5}
    found = audit(lin.features, lin.queries, lin.residual, **settings)  # type: ignore[arg-type]
    if found.mean is None or found.sd is None or found.projection_loss is None:
        return [{"measure": "singular", "predicted": None, "measured": None, "measured_se": None}]
    ridge, top = found.setting["ridge"], found.setting["top"]
    pairs = [_draw(lin, k, ridge, child) for child in drawing.spawn(draws)]
    scores = [score for score, _ in pairs]
    agreed = [agreement(found.mean, score) for score in scores]
    alone = audit(
        *pairs[0][1], lin.residual, ridge=value, package="dattri", projected=True, parameters=lin.features.shape[1]
    )
    measured: dict[str, tuple[float | None, list[float]]] = {
        "Kendall": (found.projection_loss["kendall"], [float(a.kendall) for a in agreed]),
        "Pearson": (found.projection_loss["pearson"], [float(a.pearson) for a in agreed]),
        "Spearman": (found.projection_loss["spearman"], [float(a.spearman) for a in agreed]),
        "top overlap": (found.top_overlap, [_overlap(a, b, top) for a, b in combinations(scores, 2)]),
        "coverage": (0.95, [float(np.mean(np.abs(s - found.mean) < 1.96 * found.sd)) for s in scores]),
        "γ from projected features alone": (found.implicit_ridge, [float(alone.implicit_ridge or np.nan)]),
    }
    return [
        {
            "measure": measure,
            "predicted": predicted,
            "measured": mean(values).value,
            "measured_se": mean(values).se if len(values) > 1 else None,
        }
        for measure, (predicted, values) in measured.items()
    ]


def _draw(lin: Linearization, k: int, ridge: float, rng: Generator) -> tuple[Array, tuple[Array, Array]]:
    """Scores of one projection, and the projected features that they came from."""
    projected = project(trak_kernel(lin, ridge=ridge), projection_matrix(lin.features.shape[1], k, rng=rng))
    return influence(projected), (projected.features, projected.queries)


def _overlap(first: Array, second: Array, top: int) -> float:
    """Share of each query's top m that two draws have in common."""
    highest = [np.argsort(-scores, axis=0)[:top] for scores in (first, second)]
    return float(np.mean([np.intersect1d(a, b).size / top for a, b in zip(*(h.T for h in highest), strict=True)]))


STUDY = Study(
    name="audit_digits",
    summary="What an audit predicts for scores of a digits network is what fresh projections show.",
    run=run,
    quick=grid(n=[200], hidden=[16], queries=[30], k=[64, 128, 300], regularization=[0.001, 0.01], draws=[6]),
    full=[
        *grid(n=[200], hidden=[16], queries=[30], k=[64, 128, 300], regularization=[0.001, 0.01], draws=[6]),
        *grid(n=[1000], hidden=[128], queries=[100], k=[64, 256, 512, 2048], regularization=[0.001, 0.01], draws=[6]),
    ],
    seconds=lambda params: 1 if params["n"] == 200 else 20,
)
