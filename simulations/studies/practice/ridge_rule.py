"""The ridge from the training recipe alone against the best ridge that the truth would choose afterwards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.workloads.digits_mlp import (
    PAPER_RECIPE,
    DigitsNetwork,
    datamodel_scores,
    digits_network,
    random_subsets,
)
from simulations.workloads.subset_training import Optimizer
from trak_theory import Linearization
from trak_theory.attribution import trak
from trak_theory.numerics.estimate import mean
from trak_theory.numerics.spectrum import Spectrum, spectrum
from trak_theory.retraining.restored import restored_block_influence, ridge_products
from trak_theory.retraining.ridge_rule import TrainingRecipe, adam_scales, ridge_rule

EXPONENTS = np.arange(-6, 7) / 2  # ridges tried: the rule's times 2^these
COSINE = tuple(0.1 * (1 + np.cos(np.pi * t / 300)) for t in range(300))

# Fixed before any of their subsets was trained.
RECIPES: dict[str, tuple[Optimizer, float]] = {
    "full batch, momentum": (PAPER_RECIPE, 0.5),
    "minibatch SGD": (Optimizer((0.1,) * 1200, weight_decay=1e-3, batch_size=50), 0.5),
    "AdamW": (Optimizer((2e-3,) * 400, weight_decay=1e-2, batch_size=100, adam=True, decoupled=True), 0.5),
    "cosine schedule": (Optimizer(COSINE, weight_decay=1e-3, momentum=0.9, batch_size=100), 0.5),
    "quarter subsets": (PAPER_RECIPE, 0.25),
    "interpolating": (Optimizer((0.2,) * 2000, momentum=0.9), 0.5),  # warned of; added afterwards
}


def run(params: Params, rng: Generator) -> Rows:
    """One network: the LDS of every kernel at 13 ridges around the rule's, and of projections with and without it."""
    optimizer, fraction = RECIPES[str(params["recipe"])]
    n = int(params["n"])
    training, choosing, retraining, projecting = rng.spawn(4)
    model = digits_network(optimizer, n=n, hidden=int(params["hidden"]), queries=int(params["queries"]), rng=training)
    lin, recipe = preconditioned(model)
    space, rule = spectrum(lin.features, lin.queries), ridge_rule(lin, recipe, fraction=fraction)
    subsets = random_subsets(n, round(fraction * n), int(params["subsets"]), choosing)
    outputs = model.retrain(subsets, retraining)

    def row(kernel: str, exponent: float, ridge: float, scores: Array) -> dict[str, str | float]:
        lds = mean(datamodel_scores(scores, subsets, outputs))
        return {"kernel": kernel, "exponent": exponent, "ridge": ridge, "lds": lds.value, "se": lds.se}

    rows = []
    for exponent in EXPONENTS.tolist():
        weighted, unit = (2**exponent * ridge for ridge in (rule.curvature_weighted, rule.unit_curvature))
        rows.append(row("curvature-weighted", exponent, weighted, _weighted(lin, space, weighted)))
        rows.append(row("unit curvature", exponent, unit, _unit(lin, space, unit)))
    if params["block"]:
        block = restored_block_influence(
            model.jacobian * coordinates(model)[0],
            model.probabilities,
            model.labels,
            lin.queries,
            recipe,
            fraction=fraction,
        )
        rows.append(row("softmax block", 0.0, rule.curvature_weighted, block))
    k = int(params["k"])
    projected = ridge_rule(lin, recipe, fraction=fraction, k=k).projected or 0.0
    for kernel, ridge in ((f"projected, k = {k}, μ = 0", 0.0), (f"projected, k = {k}, rule", projected)):
        if ridge > 0 or k < space.rank:
            scores = trak(lin, k=k, ridge=ridge, rng=projecting.spawn(1)[0])
            rows.append(row(kernel, 0.0, ridge, scores))
    return rows


def preconditioned(model: DigitsNetwork) -> tuple[Linearization, TrainingRecipe | float]:
    """The margin linearisation in the coordinates that give all parameters one ridge, and the recipe there."""
    scales, recipe = coordinates(model)
    lin = model.margin_linearization()
    return replace(lin, features=lin.features * scales, queries=lin.queries * scales), recipe


def coordinates(model: DigitsNetwork) -> tuple[Array | float, TrainingRecipe | float]:
    """Scales of the parameters and the recipe there: one and the recipe itself but for Adam."""
    optimizer = model.optimizer
    recipe = TrainingRecipe(optimizer.weight_decay, optimizer.learning_rates, momentum=optimizer.momentum)
    if model.second_moment is None:
        return 1.0, recipe
    return adam_scales(recipe, model.second_moment, model.network.n, decoupled=optimizer.decoupled)


def _weighted(lin: Linearization, space: Spectrum, ridge: float) -> Array:
    rows = np.sqrt(lin.curvature)[:, None] * space.training
    return -lin.residual[:, None] * ridge_products(rows, space.training, space.queries, ridge)


def _unit(lin: Linearization, space: Spectrum, ridge: float) -> Array:
    return -lin.residual[:, None] * ((space.training / (space.eigenvalues + ridge)) @ space.queries.T)


SMALL_CELLS = grid(
    recipe=list(RECIPES), n=[250], hidden=[24], queries=[60], subsets=[60], k=[200], block=[True], replicate=[0]
)

LARGE = {"n": [1000], "hidden": [128], "queries": [100], "subsets": [100]}

STUDY = Study(
    name="ridge_rule",
    summary="The ridge that follows from the training recipe is close to the best one that the truth would choose.",
    run=run,
    quick=SMALL_CELLS[::2],  # every second recipe
    full=[
        *SMALL_CELLS,
        *grid(recipe=list(RECIPES), **LARGE, k=[512], block=[True], replicate=[0]),
        *grid(recipe=["full batch, momentum"], **LARGE, k=[2048], block=[False], replicate=[0]),
    ],
    seconds=lambda params: 6 if params["n"] == 250 else 300,
)
