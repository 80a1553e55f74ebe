"""The best prediction of outputs after training on half of the points, no sum over points, from m retrainings.

Candidates: the block twin at θ̂ with the training ridge λ_t, a third and three times it; at the mean parameters of 20
retrained networks; at networks trained on all points from two other starts. Each gives a displacement δ_S and two
answers: the linear one φ*ᵀδ_S, and the margins of the network itself at θ + δ_S. Their weights come from the first m
subsets, and are tested on others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.studies.practice.ridge_rule import RECIPES, coordinates
from simulations.workloads.digits_mlp import (
    DigitsNetwork,
    digits_network,
    everything,
    he_start,
    margins,
    random_subsets,
)
from simulations.workloads.subset_training import train
from trak_theory import restored_block_influence
from trak_theory.retraining import OverQueries, Twin, block_twin, fidelity, lds, membership, stack
from trak_theory.shallow.objective import Objective
from trak_theory.shallow.solve import cholesky, newton_cg

AVERAGED = 20  # retrained networks in the mean base point
STARTS = 2  # more trainings on all points
RIDGES = (1 / 3, 1.0, 3.0)  # times the training ridge
RETRAINED = (5, 10, 20, 40)  # retrainings that weights are fitted on
TOL = 3e-3  # of the first Newton decrement
SUM, LINEAR, NETWORK = "sum over points", "twin", "network at the twin's parameters"
STACKED, STARTED, AVERAGE = "stack, one network", "stack, two other starts too", "stack, the mean network too"
ANSWERS = (SUM, LINEAR, NETWORK, STACKED, STARTED, AVERAGE)


@dataclass(frozen=True, eq=False)
class Displaced:
    """A network θ with the twin at θ, and the displacements of its parameters."""

    model: DigitsNetwork
    rank: int
    rng: Generator

    @cached_property
    def twin(self) -> Twin:
        """With the parameters themselves as queries, so that its refits are displacements of θ."""
        model, (scales, recipe) = self.model, coordinates(self.model)
        parameters, jacobian = np.eye(model.network.p), model.jacobian * scales
        return block_twin(jacobian, model.probabilities, model.labels, parameters, recipe, rank=self.rank, rng=self.rng)

    def answers(self, subsets: Array, times: float) -> tuple[Array, Array]:
        """Linear and network margins (B, q) at the refits with `times` the training ridge."""
        model, whole = self.model, self.twin.objective
        problem = replace(whole, ridge=times * whole.ridge, centre=whole.centre / times)
        moved = (_refit(problem, subsets) @ self.twin.queries.T) * coordinates(model)[0]
        return moved @ model.query_gradients.T, outputs(model, model.theta + moved)


def _refit(problem: Objective, subsets: Array) -> Array:
    """Coordinates of δ_S (B, r): `Twin.refit` to the few digits that ranks need."""
    weights = membership(subsets, problem.outputs.shape[0])
    start = np.zeros((len(weights), problem.centre.size))
    precondition = cholesky(problem.gauss_newton(start[0], np.ones(weights.shape[1])))
    return newton_cg(problem, start, weights / weights.mean(1, keepdims=True), precondition, tol=TOL).theta


def outputs(model: DigitsNetwork, theta: Array) -> Array:
    """Query margins (B, q) at parameters (B, p)."""
    held_out = model.held_out
    return margins(held_out.outputs(theta, everything(held_out)), held_out.labels).astype(float)


@dataclass(frozen=True, eq=False)
class Setting:
    """A network, networks retrained on subsets (B, m) with parameters (B, p), and networks from other starts."""

    model: DigitsNetwork
    subsets: Array
    retrained: Array
    rank: int
    rng: Generator

    @cached_property
    def others(self) -> list[DigitsNetwork]:
        """Trained on all points from other starts, in other batch orders."""
        return [_started(self.model, rng) for rng in self.rng.spawn(STARTS)]

    @cached_property
    def candidates(self) -> dict[str, Array]:
        """(B, q) by base point, ridge and kind of answer, in the order in which the stacks take them."""
        mean = replace(self.model, theta=self.retrained[:AVERAGED].mean(0).astype(float))
        bases = [("own", self.model, RIDGES), *((f"start {i}", one, (1.0,)) for i, one in enumerate(self.others))]
        found: dict[str, Array] = {}
        for name, model, ridges in [*bases, ("mean", mean, (1.0,))]:
            displaced = Displaced(model, self.rank, self.rng.spawn(1)[0])
            for times in ridges:
                kinds = displaced.answers(self.subsets, times)
                found |= {f"{name} {times:.2g} {kind}": kinds[i] for i, kind in enumerate(("linear", "network"))}
        return found

    def pools(self) -> Iterator[tuple[str, list[str]]]:
        names = list(self.candidates)
        yield STACKED, [name for name in names if name.startswith("own")]
        yield STARTED, [name for name in names if not name.startswith("mean")]
        yield AVERAGE, names

    def without_retraining(self) -> Iterator[tuple[str, Array]]:
        """A single candidate, or the mean of the standardised candidates at the training ridge."""
        yield LINEAR, self.candidates["own 1 linear"]
        yield NETWORK, self.candidates["own 1 network"]
        for answer, names in self.pools():
            if answer != AVERAGE:
                alike = np.stack([self.candidates[name] for name in names if " 1 " in name])
                yield answer, ((alike - alike.mean(1, keepdims=True)) / alike.std(1, keepdims=True)).mean(0)

    def stacks(self, measured: Array, rng: Generator) -> Iterator[tuple[str, Array]]:
        """Predictions (B, q) with weights from outputs (m, q) of the first m subsets."""
        m = len(measured)
        for answer, names in self.pools():
            if answer != AVERAGE or m >= AVERAGED:
                columns = np.stack([self.candidates[name] for name in names])
                yield answer, stack(columns[:, :m], measured, rng=rng).predict(columns)


def _started(model: DigitsNetwork, rng: Generator) -> DigitsNetwork:
    starting, training = rng.spawn(2)
    start = he_start(model.network, starting)
    trained = train(model.network, start, everything(model.network)[None], model.optimizer, training)
    moment = None if trained.second_moment is None else trained.second_moment[0]
    return replace(model, theta=trained.theta[0].astype(float), start=start, second_moment=moment)


def run(params: Params, rng: Generator) -> Rows:
    """One network: Spearman of every answer with retraining on tested subsets, for each m."""
    optimizer, fraction = RECIPES[str(params["recipe"])]
    n, most = int(params["n"]), int(params["most"])
    tested = slice(most, None)
    building, drawing, training, again, answering, folding = rng.spawn(6)
    model = digits_network(optimizer, n=n, hidden=int(params["hidden"]), queries=int(params["queries"]), rng=building)
    subsets = random_subsets(n, round(fraction * n), most + int(params["subsets"]), drawing)
    retrained = train(model.network, model.start, subsets, optimizer, training).theta
    truth = outputs(model, retrained)
    setting = Setting(model, subsets, retrained, int(params["rank"]), answering)
    rows: Rows = [_row(SUM, 0, lds(_sum(model, fraction), subsets[tested], truth[tested]))]
    rows += [_row(name, 0, fidelity(found[tested], truth[tested])) for name, found in setting.without_retraining()]
    for m in (m for m in RETRAINED if m <= most):
        stacks = setting.stacks(truth[:m], folding)
        rows += [_row(name, m, fidelity(found[tested], truth[tested])) for name, found in stacks]
    if optimizer.batch_size is not None:
        repeated = fidelity(model.retrain(subsets[tested], again), truth[tested])
        rows.append(_row("retraining, another batch order", 0, repeated))
    return [{"p": model.network.p, **row} for row in rows]


def _sum(model: DigitsNetwork, fraction: float) -> Array:
    """Restored influence of the softmax block (n, q)."""
    scales, recipe = coordinates(model)
    queries = model.query_gradients * scales
    block = (model.jacobian * scales, model.probabilities, model.labels, queries, recipe)
    return restored_block_influence(*block, fraction=fraction)


def _row(answer: str, m: int, found: OverQueries) -> dict[str, Any]:
    """LDS less its small-sample bias, with its standard error over subsets and queries, and over subsets alone."""
    estimate = found.estimate
    return {
        "answer": answer,
        "m": m,
        "lds": estimate.value - estimate.bias,
        "se": estimate.se,
        "subset_se": estimate.subset_se,
    }


THREE = ["full batch, momentum", "minibatch SGD", "AdamW"]
SMALL: dict[str, Any] = {"n": [200], "hidden": [20], "queries": [30], "most": [20], "subsets": [30], "rank": [200]}
LARGE: dict[str, Any] = {"n": [1000], "hidden": [128], "queries": [100], "most": [40], "subsets": [80], "rank": [1000]}
SMALL_CELLS = grid(recipe=THREE, **SMALL, replicate=range(3))

STUDY = Study(
    name="best_answer",
    summary="The best prediction of retraining on half of the points, from twins weighed by a few retrainings.",
    run=run,
    quick=SMALL_CELLS[::6],  # the first of every second setting
    full=[*SMALL_CELLS, *(cell for seed in range(5) for cell in grid(recipe=THREE, **LARGE, replicate=[seed]))],
    seconds=lambda params: 7 if params["n"] == 200 else 300,
)
