"""Trajectory attribution of Llamas: a small one on English text, pretrained SmolLM2 with LoRA on instructions."""

from __future__ import annotations

from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.studies.networks.torch_gpt2 import FULL, language_rows
from simulations.workloads.remembered import Remembered
from simulations.workloads.torch_runs import ESTIMATORS, trajectory_rows

LORA_WARM_UP_RATE = 1e-3
LORA_REMOVED = 8
EXACT_CURVATURE = {name: settings for name, settings in ESTIMATORS.items() if "curvature" not in settings}


def run(params: Params, rng: Generator) -> Rows:
    from trak_theory.torch_bridge.settings.language import llama

    learning_rate = float(params["learning_rate"])
    if params["model"] == "small":
        return language_rows(llama(rng=rng), str(params["start"]), learning_rate, rng)
    return smollm2_rows(learning_rate, rng)


def smollm2_rows(learning_rate: float, rng: Generator) -> Rows:
    """Rows of one LoRA run after its warm-up, going on with the warm-up's optimiser.

    Without Gauss–Newton products: with 49 152 outputs a token they cost more than all else.
    """
    from trak_theory.torch_bridge.settings.language import smollm2
    from trak_theory.trajectory import loss_query

    setting = smollm2(rng=rng)
    optimizer = setting.adamw(LORA_WARM_UP_RATE)
    setting.warm(optimizer)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    trained = setting.train(optimizer, rng)
    held_out = Remembered(setting.held_out)  # every estimator asks for the query's gradient at θ_T
    query = loss_query(held_out, range(held_out.n), mean=True)
    removed = rng.permutation(trained.objective.n)[:LORA_REMOVED]
    return trajectory_rows(trained, query, removed, EXACT_CURVATURE)


STUDY = Study(
    name="torch_llama",
    summary="Llama on text, and pretrained SmolLM2 with LoRA on instructions: estimators against retraining.",
    run=run,
    quick=grid(model=["small"], start=["warm"], learning_rate=[1e-4], replicate=range(1)),
    full=[
        *grid(model=["SmolLM2"], start=["warm"], learning_rate=[1e-4, 1e-3], replicate=range(3)),
        *[{"model": "small", **params} for params in FULL],
    ],
    seconds=lambda params: 36 if params["model"] == "small" else 500,
    extra="torch",
)
