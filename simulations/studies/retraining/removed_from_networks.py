"""Fidelity of every answer to "what if these samples were gone" on networks of torch: a CNN, GPT-2 and Llama.

As `share_removed` does for perceptrons: truth and trajectory estimates share the removal convention `renormalise`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.studies.retraining.share_removed import REMOVAL, SHARES, TRAJECTORIES, mixture, total, without
from simulations.workloads.digits_mlp import random_subsets
from simulations.workloads.remembered import Remembered
from simulations.workloads.torch_attribution import Trained, trained
from trak_theory import restored_block_influence
from trak_theory.retraining import Twin, block_twin, fidelity
from trak_theory.trajectory import Query, Run, attribute, loss_query, retrain_without

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from trak_theory.torch_bridge import TorchObjective
    from trak_theory.torch_bridge.settings.language import LanguageSetting

WARM_UP_RATE = 3e-3
RESTORED, TWIN, BOTH = "restored influence", "twin", "two-step and twin"
WEIGHTED, AGAIN = "weights 1 − s and s", "retraining, another order"
ANSWERS = (*TRAJECTORIES, RESTORED, TWIN, BOTH, WEIGHTED, AGAIN)


class Network(Protocol):
    """A network after a recorded run, and what its end says of removals; influences are of the query."""

    @property
    def run(self) -> Run: ...

    @property
    def query(self) -> Query: ...

    def restored(self, fraction: float | None) -> Array:
        """Restored influence (n, q)."""
        ...

    def refitted(self, removed: Array, sums: Array) -> Iterator[tuple[str, Array]]:
        """Answers (B, q) that are no sums over the `removed` (B, m), given the `sums` of two-step."""
        ...


@dataclass(frozen=True, eq=False)
class Images:
    """A CNN; queries are margins of held-out images."""

    model: Trained
    rank: int
    rng: Generator

    @property
    def run(self) -> Run:
        return self.model.run

    @cached_property
    def query(self) -> Query:
        return self.model.margins

    @cached_property
    def block(self) -> tuple[Array, Array, Array, Array, float]:
        """What the softmax block is made from: Jacobian, probabilities, labels, query gradients, ridge."""
        from trak_theory.torch_bridge.features import softmax_block

        own, asked = self.model.setting.objective.rows, self.model.setting.held_out.rows
        few = (asked.args[0][: self.model.queries], asked.targets[: self.model.queries])
        found = softmax_block(self.model.setting.network, (own.args[0], own.targets), few)
        scales, ridge = self.model.scales(self.model.linearize())
        return found.jacobian * scales, found.probabilities, found.labels, found.queries * scales, ridge

    @cached_property
    def twin(self) -> Twin:
        return block_twin(*self.block, rank=self.rank, rng=self.rng)

    @cached_property
    def alone(self) -> Array:
        """(n, q): the twin's answers to the removal of each sample alone."""
        return without(self.twin, np.arange(self.run.objective.n)[:, None])

    def restored(self, fraction: float | None) -> Array:
        return restored_block_influence(*self.block, fraction=fraction)

    def refitted(self, removed: Array, sums: Array) -> Iterator[tuple[str, Array]]:
        share, found = removed.shape[1] / self.run.objective.n, without(self.twin, removed)
        yield TWIN, found
        yield BOTH, mixture(sums, found, total(self.alone, removed))
        yield WEIGHTED, (1 - share) * sums + share * found


@dataclass(frozen=True, eq=False)
class Text:
    """A language model; queries are losses of held-out sequences. Its logits are too many for the block of a twin."""

    setting: LanguageSetting
    run: Run
    optimizer: torch.optim.Optimizer
    queries: int
    rng: Generator

    @cached_property
    def query(self) -> Query:
        return loss_query(self.setting.held_out, np.arange(self.queries))

    def restored(self, fraction: float | None) -> Array:
        """From two directions a sequence, without a sketch; `restored` asks about −loss."""
        from trak_theory.torch_bridge import NextTokenLoss, restored, training_coordinates

        model, n, schedule = self.setting.model, self.run.objective.n, np.ones(self.run.steps)
        scales, ridge = training_coordinates(model, self.optimizer, n, schedule=schedule)
        training, asked = tokens(self.setting.objective), tokens(self.setting.held_out)[: self.queries]
        known: dict[str, Any] = {"fraction": fraction, "scales": scales, "loss": NextTokenLoss(), "rng": self.rng}
        return -restored(model, (training, training), (asked, asked), ridge, k=None, **known).scores

    def refitted(self, removed: Array, sums: Array) -> Iterator[tuple[str, Array]]:
        yield from ()


def tokens(objective: TorchObjective) -> Tensor:
    """Whole sequences (n, L) of an objective that reads all tokens but the last and predicts all but the first."""
    import torch

    rows = objective.rows
    return torch.cat([rows.named["input_ids"], rows.targets[:, -1:]], 1)


def images(params: Params, rng: Generator) -> tuple[Images, Run]:
    """A CNN at its end, and its training in another order of the batches."""
    from trak_theory.torch_bridge.settings.image import Size, mnist_cnn

    building, other, ordering, sketching = rng.spawn(4)
    queries = int(params["queries"])
    size = Size(n=int(params["samples"]), batch=20, steps=int(params["steps"]), held_out=queries)
    setting = mnist_cnn(size, rng=building)
    start = copy.deepcopy(setting.network.state_dict())
    optimizer, rate = RECIPES[str(params["recipe"])]
    again = trained(setting, optimizer, rate, queries=queries, rng=other).run
    setting.network.load_state_dict(start)
    model = trained(setting, optimizer, rate, queries=queries, rng=ordering)
    return Images(model, int(params["rank"]), sketching), again


def text(params: Params, rng: Generator) -> tuple[Text, Run]:
    """A language model, warmed up, then trained by a new optimiser; and that in another order of the batches."""
    from trak_theory.torch_bridge.settings.language import gpt2, llama

    building, other, ordering, drawing = rng.spawn(4)
    setting = (gpt2 if params["model"] == "GPT-2" else llama)(rng=building)
    setting.warm(setting.adamw(WARM_UP_RATE))
    start = copy.deepcopy(setting.model.state_dict())
    rate = RECIPES[str(params["recipe"])][1]
    again = setting.train(setting.adamw(rate), other)
    setting.model.load_state_dict(start)
    optimizer = setting.adamw(rate)
    run = setting.train(optimizer, ordering)
    return Text(setting, run, optimizer, int(params["queries"]), drawing), again


RECIPES = {"AdamW 1e-3": ("AdamW", 1e-3), "AdamW 3e-3": ("AdamW", 3e-3), "SGD, momentum": ("SGD", 0.05)}
BUILDERS: dict[str, Callable[[Params, Generator], tuple[Network, Run]]] = {"CNN": images, "GPT-2": text, "Llama": text}


def run(params: Params, rng: Generator) -> Rows:
    """One network: Spearman over removed sets of every answer with retraining, the mean over queries, at each share."""
    building, drawing = rng.spawn(2)
    network, again = BUILDERS[str(params["model"])](params, building)
    objective, sets = network.run.objective, int(params["sets"])
    remembered = replace(network.run, objective=Remembered(objective))  # the sweeps ask for the same derivatives
    trajectory = {
        name: attribute(remembered, network.query, estimator=estimator, removal=REMOVAL).influence
        for name, estimator in TRAJECTORIES.items()
    }
    rows: Rows = []
    for size in sorted({1, *(max(1, round(share * objective.n)) for share in SHARES)}):
        removed = removed_sets(objective.n, size, sets, drawing)
        truth = retrain_without(network.run, removed, removal=REMOVAL).influence(network.query)
        other = retrain_without(again, removed, removal=REMOVAL).influence(network.query)
        shared = {"n": objective.n, "p": objective.p, "removed": size, "share": size / objective.n}
        for name, found in [*_answers(network, trajectory, removed), (AGAIN, other)]:
            rows.append({**shared, "answer": name, **_faithful(found, truth)})
    return rows


def removed_sets(n: int, size: int, sets: int, rng: Generator) -> Array:
    """Random sets (sets, size); single samples are drawn without replacement."""
    return rng.permutation(n)[:sets, None] if size == 1 else random_subsets(n, size, sets, rng)


def _answers(network: Network, trajectory: dict[str, Array], removed: Array) -> Iterator[tuple[str, Array]]:
    """f_all − f without each row of `removed` (B, m): (B, q) by every answer."""
    size = removed.shape[1]
    for name, scores in trajectory.items():
        yield name, total(scores, removed)
    fraction = None if size == 1 else 1 - size / network.run.objective.n
    yield RESTORED, total(network.restored(fraction), removed)
    yield from network.refitted(removed, total(trajectory["two-step"], removed))


def _faithful(found: Array, truth: Array) -> dict[str, Any]:
    """Less its small-sample bias, with its standard error over removed sets and queries."""
    measured = fidelity(found, truth)
    estimate = measured.estimate
    return {"fidelity": estimate.value - estimate.bias, "se": estimate.se, "undefined": len(measured.undefined)}


CNN: dict[str, list[Any]] = {"model": ["CNN"]}
QUICK = grid(
    **CNN, recipe=["AdamW 1e-3"], samples=[120], steps=[30], queries=[6], sets=[10], rank=[1200], replicate=range(1)
)
ASKED: dict[str, list[Any]] = {"queries": [16], "sets": [24]}

STUDY = Study(
    name="removed_from_networks",
    summary="Which answer follows retraining of a CNN and of language models as more samples are removed.",
    run=run,
    quick=QUICK,
    full=[
        *grid(**CNN, recipe=list(RECIPES), samples=[400], steps=[80], **ASKED, rank=[4000], replicate=range(5)),
        *grid(model=["GPT-2", "Llama"], recipe=["AdamW 1e-3"], **ASKED, replicate=range(5)),
    ],
    seconds=lambda params: 40 if params["sets"] == 10 else 160,
    extra="torch",
)
