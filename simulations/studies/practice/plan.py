"""The plan for a budget: the Kendall that it predicts for every k against the Kendall that TRAK reaches."""

from __future__ import annotations

from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.studies.laws.projection_law import network_gradients
from simulations.workloads.digits_mlp import PAPER_RECIPE
from trak_theory import agreement, trak
from trak_theory.auditing.planning import plan_projection
from trak_theory.numerics.estimate import mean
from trak_theory.retraining.restored import restored_influence
from trak_theory.retraining.ridge_rule import TrainingRecipe

RECIPE = TrainingRecipe(PAPER_RECIPE.weight_decay, PAPER_RECIPE.learning_rates, momentum=PAPER_RECIPE.momentum)
FRACTION = 0.5
DIMENSIONS = (16, 32, 64, 100, 160, 240)


def run(params: Params, rng: Generator) -> Rows:
    """One network, one budget: every k of the plan at its best μ, and at μ = 0 where that exists."""
    building, drawing = rng.spawn(2)
    n, draws = int(params["n"]), int(params["draws"])
    lin = network_gradients(n, building)
    reference = restored_influence(lin, RECIPE, fraction=FRACTION)
    budget = int(params["budget"])
    plan = plan_projection(
        lin, recipe=RECIPE, budget=budget, fraction=FRACTION, dimensions=[k for k in DIMENSIONS if k <= budget]
    )
    rows = []
    for choice in plan.curve:
        settings = [("best ridge", choice.ridge)] + ([("no ridge", 0.0)] if choice.k < n else [])
        for name, ridge in settings:
            children = drawing.spawn(draws)
            found = [
                agreement(reference, trak(lin, k=choice.k, ensemble=choice.ensemble, ridge=ridge, rng=child)).kendall
                for child in children
            ]
            rows.append(
                {
                    "setting": name,
                    "k": choice.k,
                    "ensemble": choice.ensemble,
                    "ridge": ridge,
                    "predicted": choice.kendall if name == "best ridge" else None,
                    "simulated": mean(found).value,
                    "simulated_se": mean(found).se,
                    "limit": plan.limit,
                    "best": choice == plan.best,
                }
            )
    return rows


STUDY = Study(
    name="plan",
    summary="For a budget k·J, the predicted Kendall of every k is what TRAK reaches, and the best k is the best.",
    run=run,
    quick=grid(n=[150], budget=[160], draws=[12]),
    full=[*grid(n=[150], budget=[160], draws=[12]), *grid(n=[300], budget=[160, 480], draws=[8])],
    seconds=lambda params: 2 if params["n"] == 150 else 4,
)
