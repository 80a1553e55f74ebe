"""Price in LDS of each approximation between a retraining and a released TRAK score, on CNNs trained by torch.

The rungs of `lds_ladder`, after two that know the order of the batches: retraining itself shares it, another does not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.studies.retraining.lds_ladder import Setting
from simulations.studies.retraining.removed_from_networks import AGAIN, CNN, RECIPES, Images, images
from simulations.studies.retraining.share_removed import REMOVAL, TRAJECTORIES
from simulations.workloads.digits_mlp import DigitsNetwork, random_subsets
from simulations.workloads.remembered import Remembered
from trak_theory import Linearization
from trak_theory.retraining import OverQueries, Twin, block_twin, fidelity, lds
from trak_theory.trajectory import Query, Run, attribute, retrain_without


@dataclass(frozen=True)
class Ends:
    """What the rungs read of a network itself."""

    probabilities: Array
    labels: Array


@dataclass(frozen=True, eq=False, kw_only=True)
class OfImages(Setting):
    """The rungs of a CNN, in the coordinates of its optimiser."""

    images: Images

    @cached_property
    def linearization(self) -> tuple[Linearization, float]:
        lin = self.images.model.linearize()
        scales, ridge = self.images.model.scales(lin)
        return replace(lin, features=lin.features * scales, queries=lin.queries * scales), ridge

    @cached_property
    def jacobian(self) -> Array:
        return self.images.block[0]

    @cached_property
    def block(self) -> Twin:
        """In all coordinates: on a CNN few of them lose what the twin gains."""
        return block_twin(*self.images.block)


def run(params: Params, rng: Generator) -> Rows:
    """One network: the LDS of every rung over subsets retrained in the order of the run."""
    building, drawing, sketching = rng.spawn(3)
    network, again = images({**params, "rank": 1}, building)  # its own twin is not asked
    objective, query, fraction = network.run.objective, network.query, float(params["fraction"])
    subsets = random_subsets(objective.n, round(fraction * objective.n), int(params["subsets"]), drawing)
    outputs = _retrained(network.run, subsets, query)
    rows: Rows = [_row(AGAIN, fidelity(_retrained(again, subsets, query), outputs))]
    remembered = replace(network.run, objective=Remembered(objective))  # the sweeps ask for the same derivatives
    for name, estimator in TRAJECTORIES.items():
        scores = attribute(remembered, query, estimator=estimator, removal=REMOVAL).influence
        rows.append(_row(name, lds(scores, subsets, outputs)))
    _, probabilities, labels, _, _ = network.block
    setting = OfImages(
        model=cast(DigitsNetwork, Ends(probabilities, labels)),
        subsets=subsets,
        fraction=fraction,
        rank=0,
        k=objective.n // 2,
        rng=sketching,
        images=network,
    )
    rows += [_row(rung, fidelity(values, outputs)) for rung, values in setting.outputs()]
    rows += [_row(rung, lds(scores, subsets, outputs)) for rung, scores in setting.scores()]
    return [{"n": objective.n, "p": objective.p, **row} for row in rows]


def _retrained(run: Run, subsets: Array, query: Query) -> Array:
    """Outputs (B, q) after training on each of the subsets (B, m), less those after training on all."""
    everyone = np.arange(run.objective.n)
    removed = np.stack([np.setdiff1d(everyone, subset) for subset in subsets])
    return -retrain_without(run, removed, removal=REMOVAL).influence(query)


def _row(rung: str, found: OverQueries) -> dict[str, Any]:
    """LDS less its small-sample bias, with its standard error over subsets and queries."""
    estimate = found.estimate
    return {
        "rung": rung,
        "lds": estimate.value - estimate.bias,
        "se": estimate.se,
        "undefined": len(found.undefined),
    }


STUDY = Study(
    name="lds_ladder_cnn",
    summary="What each approximation between a retraining of a CNN and a released TRAK score costs in LDS.",
    run=run,
    quick=grid(
        **CNN,
        recipe=["AdamW 1e-3"],
        fraction=[0.5],
        samples=[120],
        steps=[30],
        queries=[6],
        subsets=[12],
        replicate=range(1),
    ),
    full=grid(
        **CNN,
        recipe=list(RECIPES),
        fraction=[0.5, 0.99],
        samples=[400],
        steps=[80],
        queries=[16],
        subsets=[30],
        replicate=range(5),
    ),
    seconds=lambda params: 18 if params["samples"] == 120 else 120,
    extra="torch",
)
