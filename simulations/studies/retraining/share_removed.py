"""Fidelity of every answer to "what if these samples were gone" against the share of samples that is removed.

Truth and trajectory estimates share one removal convention, `renormalise`: a batch without samples is the mean of what
is left. It is the one that a twin answers under too, whose ridge belongs to a mean loss.
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
from simulations.studies.practice.ridge_rule import coordinates, preconditioned
from simulations.workloads.digits_mlp import PAPER_RECIPE, DigitsNetwork, margin_gradients, margins, random_subsets
from simulations.workloads.subset_training import Optimizer
from simulations.workloads.training_runs import setting
from trak_theory import Linearization, newton, restored_block_influence
from trak_theory.retraining import Twin, block_twin, fidelity, membership
from trak_theory.retraining.ridge_rule import TrainingRecipe, training_ridge
from trak_theory.trajectory import MLP, Adam, Query, Run, attribute, retrain_without
from trak_theory.trajectory.convention import Removal
from trak_theory.trajectory.sweep.push import Estimator

REMOVAL: Removal = "renormalise"
FAMILIES = {"tanh": "digits", "ReLU": "digits_relu"}
SHARES = (0.01, 0.1, 0.25, 0.5)  # beside one sample, whose share is 1/n
ANSWERS = (
    "first order",
    "two-step",
    "frozen push",
    "leave-one-out Newton",
    "restored influence",
    "twin",
    "two-step and twin",
    "weights 1 − s and s",
)
TRAJECTORIES: dict[str, Estimator] = {
    "first order": "first-order",
    "two-step": "two-step",
    "frozen push": "frozen-push",
}


def _adamw(rate: float) -> Optimizer:
    """Batches so large that half of the samples hardly ever empties one: one of 20 was left empty by chance."""
    return Optimizer((rate,) * 160, weight_decay=1e-2, batch_size=25, adam=True, decoupled=True)


RECIPES: dict[str, Optimizer] = {
    "AdamW 1e-3": _adamw(1e-3),
    "AdamW 3e-3": _adamw(3e-3),
    "AdamW 1e-2": _adamw(1e-2),
    "full batch, momentum": PAPER_RECIPE,
}


@dataclass(frozen=True, eq=False)
class Setting:
    """A recorded training, and the margins of `queries` held-out points that removals are asked about."""

    trained: Run
    model: DigitsNetwork
    queries: int
    rank: int
    rng: Generator

    @cached_property
    def query(self) -> Query:
        held_out, batch = self.model.held_out, np.arange(self.queries)
        return Query(
            lambda theta: margins(held_out.outputs(theta, batch), held_out.labels[batch]),
            lambda theta: margin_gradients(held_out, theta, batch),
        )

    @cached_property
    def linearization(self) -> tuple[Linearization, TrainingRecipe | float]:
        lin, recipe = preconditioned(self.model)
        return replace(lin, queries=lin.queries[: self.queries]), recipe

    @cached_property
    def block(self) -> tuple[Array, Array, Array, Array, TrainingRecipe | float]:
        """What the softmax block is made from: Jacobian, probabilities, labels, query gradients, recipe."""
        (lin, recipe), model = self.linearization, self.model
        return model.jacobian * coordinates(model)[0], model.probabilities, model.labels, lin.queries, recipe

    @cached_property
    def twin(self) -> Twin:
        return block_twin(*self.block, rank=self.rank, rng=self.rng)

    @cached_property
    def alone(self) -> Array:
        """(n, q): the twin's answers to the removal of each sample alone."""
        return without(self.twin, np.arange(self.model.network.n)[:, None])

    @cached_property
    def trajectory(self) -> dict[str, Array]:
        """Estimates (n, q) of removing one sample each, from the run. One sweep for SGD, whose step is linear."""
        swept = (
            TRAJECTORIES if isinstance(self.trained.optimizer, Adam) else {"first order": TRAJECTORIES["first order"]}
        )
        found = {
            name: attribute(self.trained, self.query, estimator=estimator, removal=REMOVAL).influence
            for name, estimator in swept.items()
        }
        return {name: found.get(name, found["first order"]) for name in TRAJECTORIES}

    @cached_property
    def newton(self) -> Array:
        lin, recipe = self.linearization
        return newton(replace(lin, ridge=training_ridge(recipe, self.model.network.n)))

    def answers(self, removed: Array) -> Iterator[tuple[str, Array]]:
        """f_all − f without each row of `removed` (B, m): (B, q) by every answer."""
        share, sums = removed.shape[1] / self.model.network.n, total(self.trajectory["two-step"], removed)
        for name, scores in self.trajectory.items():
            yield name, total(scores, removed)
        yield "leave-one-out Newton", total(self.newton, removed)
        fraction = None if removed.shape[1] == 1 else 1 - share
        yield "restored influence", total(restored_block_influence(*self.block, fraction=fraction), removed)
        refitted = without(self.twin, removed)
        yield "twin", refitted
        yield "two-step and twin", mixture(sums, refitted, total(self.alone, removed))
        yield "weights 1 − s and s", (1 - share) * sums + share * refitted


def total(scores: Array, removed: Array) -> Array:
    """(B, q): Σ over each row of `removed` (B, m) of scores (n, q)."""
    return membership(removed, len(scores)) @ scores


def without(twin: Twin, removed: Array) -> Array:
    """f_all − f_S (B, q) of the twin, for S all samples but a row of `removed`."""
    everyone = np.arange(len(twin.sample_weights))
    return -twin.refit([np.setdiff1d(everyone, row) for row in removed])


def mixture(sums: Array, refitted: Array, added: Array) -> Array:
    """A sum over the removed samples, and what the twin says beyond such a sum of its own, all (B, q).

    No weight to choose: for one sample the twin's part is 0, and where the sum equals the twin's own it is the twin.
    """
    return sums + (refitted - added)


def recorded(params: Params, rng: Generator) -> Setting:
    building, ordering, sketching = rng.spawn(3)
    optimizer, n = RECIPES[str(params["recipe"])], int(params["n"])
    problem = setting(FAMILIES[str(params["activation"])], n=n, rng=building)
    steps = len(optimizer.learning_rates)
    trained = problem.train(optimizer.steps, size=optimizer.batch_size or n, steps=steps, rng=ordering)
    model = DigitsNetwork(
        problem.network, problem.held_out, trained.final, problem.start, _second_moment(trained), optimizer
    )
    return Setting(trained, model, int(params["queries"]), int(params["rank"]), sketching)


def _second_moment(trained: Run) -> Array | None:
    """Adam's v (p,) at the end of the run, bias-corrected."""
    steps = trained.optimizer
    return trained.state(trained.steps)[2] / (1 - steps.betas[1] ** trained.steps) if isinstance(steps, Adam) else None


def run(params: Params, rng: Generator) -> Rows:
    """One network: Spearman over removed sets of every answer with retraining, the mean over queries, at each share."""
    recording, drawing = rng.spawn(2)
    asked, n, sets = recorded(params, recording), int(params["n"]), int(params["sets"])
    sizes = sorted({1, *(max(1, round(share * n)) for share in SHARES)})
    removed = [random_subsets(n, size, sets, drawing) for size in sizes]
    removed[0] = drawing.permutation(n)[:sets, None]  # no sample twice
    rows: Rows = []
    for groups in removed:
        truth = retrain_without(asked.trained, groups, removal=REMOVAL).influence(asked.query)
        shared = {
            "p": asked.model.network.p,
            "accuracy": _accuracy(asked.model.held_out, asked.model.theta),
            "captured": asked.twin.captured,
            "removed": groups.shape[1],
            "share": groups.shape[1] / n,
        }
        rows += [{**shared, "answer": name, **_fidelity(found, truth)} for name, found in asked.answers(groups)]
    return rows


def _accuracy(held_out: MLP, theta: Array) -> float:
    return float(np.mean(held_out.outputs(theta, np.arange(held_out.n)).argmax(1) == held_out.labels))


def _fidelity(found: Array, truth: Array) -> dict[str, Any]:
    """Less its small-sample bias, with its standard error over removed sets and queries, and the error in size."""
    measured = fidelity(found, truth)
    estimate = measured.estimate
    return {
        "fidelity": estimate.value - estimate.bias,
        "se": estimate.se,
        "undefined": len(measured.undefined),
        "relative_error": float(np.linalg.norm(found - truth) / np.linalg.norm(truth)),
    }


SMALL: dict[str, Any] = {"n": [200], "queries": [12], "sets": [16], "rank": [200]}
LARGE: dict[str, Any] = {"n": [400], "queries": [50], "sets": [100], "rank": [600]}
SMALL_CELLS = [
    *grid(activation=["tanh"], recipe=["AdamW 1e-3"], **SMALL, replicate=range(3)),
    *grid(activation=list(FAMILIES), recipe=["AdamW 3e-3"], **SMALL, replicate=range(3)),
    *grid(activation=["tanh"], recipe=["full batch, momentum"], **SMALL, replicate=range(3)),
]

STUDY = Study(
    name="share_removed",
    summary="Which answer follows retraining when one sample, one per cent or half of them are removed.",
    run=run,
    quick=SMALL_CELLS[3::3],  # the first of each setting but one
    full=[*SMALL_CELLS, *grid(activation=list(FAMILIES), recipe=list(RECIPES), **LARGE, replicate=range(5))],
    seconds=lambda params: 6 if params["n"] == 200 else 60,
)
