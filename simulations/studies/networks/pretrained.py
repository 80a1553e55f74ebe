"""One epoch of a pretrained language model, its parameters trained in full: each estimate against each truth.

The protocol is the published one of 16 steps (warm-up of a tenth, then linear decay; AdamW with betas (.9, .999), no
decay), which compares estimates that keep the denominator with retrainings that renormalise it.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.workloads.remembered import Remembered
from simulations.workloads.torch_runs import null_effect
from trak_theory.numerics.agreement import agreement
from trak_theory.trajectory import Query, Run, attribute, loss_query, retrain_without
from trak_theory.trajectory.batches import shuffled_epochs
from trak_theory.trajectory.convention import Removal
from trak_theory.trajectory.sweep.push import Estimator

if TYPE_CHECKING:
    import torch

    from trak_theory.torch_bridge.settings.language import LanguageSetting

STEPS, WARM_UP, QUERIES = 16, 2, 8
PRETRAINING_RATE = 3e-3  # of the small model
REMOVALS: tuple[Removal, ...] = ("keep", "renormalise")
ESTIMATORS: tuple[Estimator, ...] = ("sgd", "first-order", "two-step", "frozen-push")


def run(params: Params, rng: Generator) -> Rows:
    setting = _setting(str(params["model"]), rng)
    trained = one_epoch(setting, float(params["learning_rate"]), rng)
    held_out = Remembered(setting.held_out)  # every estimate asks for the queries' gradients at θ_T
    return paired_rows(trained, loss_query(held_out, np.arange(QUERIES)), int(params["removed"]), rng)


def _setting(model: str, rng: Generator) -> LanguageSetting:
    if model == "SmolLM2, last block":
        from trak_theory.torch_bridge.settings.pretrained import smollm2_blocks

        return smollm2_blocks(1, rng=rng)
    from trak_theory.torch_bridge.settings.language import llama

    setting = llama(rng=rng)
    setting.warm(setting.adamw(PRETRAINING_RATE))
    return setting


def one_epoch(setting: LanguageSetting, peak: float, rng: Generator) -> Run:
    """The recorded run of 16 steps in which every sequence occurs once."""
    import torch

    from trak_theory.torch_bridge.recording.loop import record_training

    trained = list(setting.objective.model.parameters.values())
    optimizer = torch.optim.AdamW(trained, lr=peak, betas=(0.9, 0.999), weight_decay=0.0)
    n = setting.objective.n
    batches = shuffled_epochs(n, size=n // STEPS, steps=STEPS, rng=rng)
    return record_training(setting.objective, optimizer, batches, schedule=_schedule(optimizer))


def _schedule(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    import torch

    def factor(t: int) -> float:
        return min((t + 1) / WARM_UP, (STEPS - t) / (STEPS - WARM_UP))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def paired_rows(run: Run, query: Query, removed: int, rng: Generator) -> Rows:
    """Agreement of both estimates of every kind with both truths, mean over queries; each sequence removed alone."""
    chosen = np.sort(rng.permutation(run.objective.n)[:removed])
    truths = {removal: retrain_without(run, chosen[:, None], removal=removal).influence(query) for removal in REMOVALS}
    repeated = null_effect(run, query, truths["keep"])
    swept = replace(run, objective=Remembered(run.objective))  # all sweeps ask for the same derivatives
    shared = {"n": run.objective.n, "p": run.objective.p, "steps": run.steps, "removals": removed, "queries": QUERIES}
    return [
        {
            **shared,
            "truth": truth,
            "estimate": removal,
            "estimator": estimator,
            "null_effect": repeated,
            **agreement(exact, found[chosen]).row(),
        }
        for estimator, removal in product(ESTIMATORS, REMOVALS)
        for found in [attribute(swept, query, estimator=estimator, removal=removal).influence]
        for truth, exact in truths.items()
    ]


STUDY = Study(
    name="pretrained",
    summary="One epoch of pretrained SmolLM2, its last block trained in full: estimates against both truths.",
    run=run,
    quick=grid(model=["small Llama"], learning_rate=[1e-3], removed=[32], replicate=range(1)),
    full=[
        *grid(model=["small Llama"], learning_rate=[1e-3], removed=[32], replicate=range(10)),
        *grid(model=["SmolLM2, last block"], learning_rate=[1e-5], removed=[20], replicate=range(2)),
    ],
    seconds=lambda params: 18 if params["model"] == "small Llama" else 1500,
    extra="torch",
)
