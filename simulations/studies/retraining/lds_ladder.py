"""Price in LDS of each approximation between a retraining and a released TRAK score, on digits networks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from numpy import ndarray as Array
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.studies.practice.ridge_rule import RECIPES, coordinates, preconditioned
from simulations.workloads.digits_mlp import DigitsNetwork, digits_network, random_subsets
from trak_theory import Linearization, influence, newton, restored_block_influence, ridge_rule, unit_curvature
from trak_theory.attribution import trak, trak_as_released
from trak_theory.retraining import OverQueries, Twin, block_twin, fidelity, lds, twin, twin_reference
from trak_theory.retraining.ridge_rule import RidgeRule, TrainingRecipe

FEW = 10  # retrainings that a prediction of the LDS may use; the measured LDS is over the others
SIMULATED = 80
RUNGS = (
    "twin, block",
    "group Newton, block",
    "twin, margin",
    "group Newton, margin",
    "sum over points, block",
    "sum over points, margin",
    "leave-one-out Newton",
    "unit curvature",
    "projection",
    "no ridge",
    "as released",
)


@dataclass(frozen=True, eq=False)
class Setting:
    """A network with its two twins, and subsets that it was retrained on."""

    model: DigitsNetwork
    subsets: Array
    fraction: float
    rank: int
    k: int
    rng: Generator

    @cached_property
    def linearization(self) -> tuple[Linearization, TrainingRecipe | float]:
        return preconditioned(self.model)

    @cached_property
    def rule(self) -> RidgeRule:
        lin, recipe = self.linearization
        return ridge_rule(lin, recipe, fraction=self.fraction, k=self.k)

    @cached_property
    def jacobian(self) -> Array:
        return self.model.jacobian * coordinates(self.model)[0]

    @cached_property
    def block(self) -> Twin:
        lin, recipe = self.linearization
        model = self.model
        return block_twin(
            self.jacobian, model.probabilities, model.labels, lin.queries, recipe, rank=self.rank, rng=self.rng
        )

    def outputs(self) -> Iterator[tuple[str, Array]]:
        """Rungs that are no sums over points: outputs (B, q)."""
        margin = twin(*self.linearization)
        yield "twin, block", self.block.refit(self.subsets)
        yield "group Newton, block", self.block.group_newton(self.subsets)
        yield "twin, margin", margin.refit(self.subsets)
        yield "group Newton, margin", margin.group_newton(self.subsets)

    def scores(self) -> Iterator[tuple[str, Array]]:
        """Rungs that are: scores (n, q), each with the ridge that its kernel wants until the ridge goes."""
        (lin, recipe), rule, model = self.linearization, self.rule, self.model
        weighted = replace(lin, ridge=rule.curvature_weighted)
        unit = unit_curvature(replace(lin, ridge=rule.unit_curvature))
        projecting, bare, releasing = self.rng.spawn(3)
        block = (self.jacobian, model.probabilities, model.labels, lin.queries, recipe)
        yield "sum over points, block", restored_block_influence(*block, fraction=self.fraction)
        yield "sum over points, margin", influence(weighted)
        yield "leave-one-out Newton", newton(replace(lin, ridge=rule.training))
        yield "unit curvature", influence(unit)
        yield "projection", trak(lin, k=self.k, ridge=rule.projected or 0.0, rng=projecting)
        yield "no ridge", trak(lin, k=self.k, rng=bare)
        yield "as released", trak_as_released([lin], k=self.k, rng=releasing)


def run(params: Params, rng: Generator) -> Rows:
    """One network: the LDS of every rung over retrained subsets, and what the block twin predicts from ten of them."""
    optimizer, _ = RECIPES[str(params["recipe"])]
    n, fraction, queries = int(params["n"]), float(params["fraction"]), int(params["queries"])
    building, drawing, training, again, sketching, simulating = rng.spawn(6)
    model = digits_network(optimizer, n=n, hidden=int(params["hidden"]), queries=queries, rng=building)
    subsets = random_subsets(n, round(fraction * n), FEW + int(params["subsets"]), drawing)
    outputs = model.retrain(subsets, training)
    setting = Setting(model, subsets, fraction, int(params["rank"]), n // 2, sketching)
    reference = twin_reference(
        setting.block,
        fraction=fraction,
        retrained=(subsets[:FEW], outputs[:FEW]),
        simulated=SIMULATED,
        rng=simulating,
    )
    shared = {"p": setting.jacobian.shape[2], "captured": setting.block.captured}
    rows: Rows = [_row(rung, fidelity(values[FEW:], outputs[FEW:])) for rung, values in setting.outputs()]
    for rung, scores in setting.scores():
        predicted = reference.predict(scores)
        low, high = predicted.interval(over="subsets")
        foretold = {
            "against_twin": predicted.against_twin.mean.value,
            "product": predicted.product,
            "predicted": predicted.estimate.value - predicted.estimate.bias,
            "predicted_se": predicted.estimate.subset_se,
            "predicted_low": low,
            "predicted_high": high,
        }
        rows.append({**_row(rung, lds(scores, subsets[FEW:], outputs[FEW:])), **foretold})
    if model.optimizer.batch_size is not None:
        rows.append(
            _row("retraining, another batch order", fidelity(model.retrain(subsets[FEW:], again), outputs[FEW:]))
        )
    return [{**shared, **row} for row in rows]


def _row(rung: str, found: OverQueries) -> dict[str, Any]:
    """LDS less its small-sample bias, with its standard error over subsets and queries, and over subsets alone."""
    estimate = found.estimate
    return {
        "rung": rung,
        "lds": estimate.value - estimate.bias,
        "se": estimate.se,
        "subset_se": estimate.subset_se,
        "undefined": len(found.undefined),
    }


SMALL: dict[str, Any] = {"n": [200], "hidden": [20], "queries": [30], "subsets": [30], "rank": [300]}
LARGE: dict[str, Any] = {"n": [1000], "hidden": [128], "queries": [100], "subsets": [100], "rank": [1500]}
SMALL_CELLS = grid(
    recipe=["full batch, momentum", "minibatch SGD", "AdamW"], fraction=[0.5], **SMALL, replicate=range(3)
)

STUDY = Study(
    name="lds_ladder",
    summary="What each approximation between a retraining and a released TRAK score costs in LDS.",
    run=run,
    quick=SMALL_CELLS[::3],  # of each setting the first
    full=[
        *SMALL_CELLS,
        *grid(recipe=["full batch, momentum"], fraction=[0.99], **SMALL, replicate=range(3)),
        *grid(recipe=[name for name in RECIPES if "quarter" not in name], fraction=[0.5], **LARGE, replicate=range(3)),
        *grid(recipe=["quarter subsets"], fraction=[0.25], **LARGE, replicate=range(3)),
    ],
    seconds=lambda params: 5 if params["n"] == 200 else 240,
)
