"""Cost of TRAK's scalar margin against the full block of a softmax's outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.studies.shallow.linearisation import K_OVER_P, QUERIES, network_problem
from simulations.workloads.digits_mlp import (
    PAPER_RECIPE,
    DigitsNetwork,
    datamodel_scores,
    digits_network,
    random_subsets,
)
from trak_theory import Linearization, influence, unit_curvature
from trak_theory.numerics.estimate import mean
from trak_theory.retraining.ridge_rule import TrainingRecipe, ridge_rule
from trak_theory.shallow import BlockLinearization, block_influence, block_linearization, leave_one_out, shallow_ladder
from trak_theory.shallow.rungs import Output

FRACTION, SUBSETS = 0.5, 100
RIDGE_GRID = 2.0 ** np.arange(-3, 4)  # times the ridge of the rule: was there a better one?
OUTPUTS: tuple[Output, ...] = ("block", "margin")


def run(params: Params, rng: Generator) -> Rows:
    """Leave-one-out of a network at its optimum, or the datamodelling score of one trained by gradient descent."""
    return _leave_one_out(params, rng) if params["truth"] == "leave-one-out" else _datamodels(params, rng)


def _leave_one_out(params: Params, rng: Generator) -> Rows:
    splitting, starting, projecting = rng.spawn(3)
    problem = network_problem("digits", n=int(params["n"]), noise=0.0, rng=splitting)
    model = problem.model(width=int(params["width"]), ridge=float(params["ridge"]))
    fit = model.fit(model.initial(starting))
    queries = problem.queries(fit)
    truth, p = leave_one_out(fit, queries), fit.theta.size
    rows = []
    for output, child in zip(OUTPUTS, projecting.spawn(len(OUTPUTS)), strict=True):
        climb = shallow_ladder(fit, queries, k=round(K_OVER_P * p), output=output, truth=truth, rng=child)
        table = (row for row in climb.table() if row["against"] == "exact" and row["rung"] != "ensemble")
        rows += [{"p": p, "queries": QUERIES, "output": output, **row} for row in table]
    return rows


def _datamodels(params: Params, rng: Generator) -> Rows:
    """Linear datamodelling score over half subsets, each kernel with the ridge of the training recipe."""
    building, drawing, training = rng.spawn(3)
    n = int(params["n"])
    digits = digits_network(n=n, hidden=int(params["width"]), queries=QUERIES, rng=building)
    subsets = random_subsets(n, round(FRACTION * n), SUBSETS, drawing)
    outputs = digits.retrain(subsets, training)
    margin = digits.margin_linearization()
    recipe = TrainingRecipe(PAPER_RECIPE.weight_decay, PAPER_RECIPE.learning_rates, momentum=PAPER_RECIPE.momentum)
    rule = ridge_rule(margin, recipe, fraction=FRACTION)
    rows = []
    for factor in RIDGE_GRID:
        attributions = {
            "margin, unit curvature": _margin(unit_curvature(margin), factor * rule.unit_curvature),
            "margin": _margin(margin, factor * rule.curvature_weighted),
            "block": block_influence(_block(digits, factor * rule.curvature_weighted)),
        }
        for output, attribution in attributions.items():
            scores = datamodel_scores(attribution, subsets, outputs)
            rows.append(
                {
                    "p": margin.features.shape[1],
                    "queries": QUERIES,
                    "subsets": SUBSETS,
                    "output": output,
                    "factor": float(factor),
                    "kernel_ridge": float(factor * rule.curvature_weighted),
                    "lds": mean(scores).value,
                    "lds_se": mean(scores).se,
                }
            )
    return rows


def _margin(lin: Linearization, ridge: float) -> Array:
    return influence(Linearization(lin.features, lin.residual, lin.curvature, ridge, lin.queries))


def _block(digits: DigitsNetwork, ridge: float) -> BlockLinearization:
    p = digits.probabilities
    return block_linearization(
        digits.jacobian,
        digits.block_residual,
        np.eye(p.shape[1]) * p[:, :, None] - p[:, :, None] * p[:, None, :],
        ridge=ridge,
        queries=digits.query_gradients,
    )


def cells(replicates: int, sizes: list[tuple[int, int]], exact: int) -> list[Params]:
    leave: dict[str, Any] = {"truth": ["leave-one-out"], "n": [120], "width": [8], "ridge": [0.5, 2.0, 8.0]}
    scores: list[Params] = [
        {"truth": "datamodels", "n": n, "width": width, "ridge": 0.0, "replicate": r}
        for n, width in sizes
        for r in range(replicates)
    ]
    return scores + grid(**leave, replicate=range(exact))


STUDY = Study(
    name="margin_shortcut",
    summary="Cost of TRAK's scalar margin against the full block of a softmax's outputs.",
    run=run,
    quick=cells(1, [(300, 16)], exact=1)[:2],
    full=cells(6, [(300, 16), (600, 16), (600, 32)], exact=6),
    seconds=lambda params: 65 if params["n"] == 600 else 8,
)
