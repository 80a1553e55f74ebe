"""trak-theory plan: k, number of projections and ridge with the best predicted ranking for a budget."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from trak_theory.auditing.packages import package_named
from trak_theory.cli.speaking import AsJson, mistakes_in_one_line, say, say_json
from trak_theory.cli.training import (
    Fraction,
    LearningRate,
    Momentum,
    Steps,
    TrainingRidge,
    WeightDecay,
    recipe_from,
)


def plan(
    budget: Annotated[float, typer.Option(help="The most numbers to store for each point, k · J.")],
    features: Annotated[
        Path | None,
        typer.Option(help="An .npz file with features (n, p), queries (q, p), residual (n,), curvature (n,)."),
    ] = None,
    n: Annotated[int | None, typer.Option(help="Without features: training points.")] = None,
    p: Annotated[int | None, typer.Option(help="Without features: parameters.")] = None,
    decay: Annotated[float, typer.Option(help="Without features: spectrum j^-decay of mean 1.")] = 0.0,
    ridge: Annotated[float | None, typer.Option(help="Without features: the model's ridge, sum convention.")] = None,
    weight_decay: WeightDecay = None,
    learning_rate: LearningRate = None,
    steps: Steps = None,
    momentum: Momentum = 0.0,
    training_ridge: TrainingRidge = None,
    fraction: Fraction = None,
    package: Annotated[str, typer.Option(help="none, traker or dattri: whose ridge parameter to print.")] = "none",
    out: Annotated[Path | None, typer.Option(help="Folder for plan.json and plan.png.")] = None,
    as_json: AsJson = False,
) -> None:
    """Choose k, J and μ: the best predicted Kendall with a fixed reference, and the curve over k."""
    from trak_theory.auditing.planning import plan_a_priori, plan_projection
    from trak_theory.auditing.stores.archive import read_arrays
    from trak_theory.linearization import Linearization

    with mistakes_in_one_line():
        known = package_named(package)
        if features is None:
            if n is None or p is None or ridge is None:
                raise ValueError("give --features, or --n, --p and --ridge")
            spectrum = np.arange(1, p + 1) ** -float(decay)
            found = plan_a_priori(n=n, p=p, ridge=ridge, spectrum=spectrum * p / spectrum.sum(), budget=budget)
            width = p
        else:
            names = ("features", "queries", "residual", "curvature")
            arrays = read_arrays(features, required=names, optional=("scores", "learning_rates"))
            rates = arrays.pop("learning_rates", learning_rate)
            recipe = recipe_from(weight_decay, rates, steps, momentum, training_ridge)
            if recipe is None:
                raise ValueError("a plan needs --weight-decay, --learning-rate and --steps, or --training-ridge")
            lin = Linearization(arrays["features"], arrays["residual"], arrays["curvature"], 0.0, arrays["queries"])
            found = plan_projection(lin, recipe=recipe, budget=budget, fraction=fraction)
            width = arrays["features"].shape[1]
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            (out / "plan.json").write_text(json.dumps(asdict(found), indent=2), encoding="utf-8")
            found.plot().savefig(out / "plan.png", dpi=150)
    if as_json:
        say_json(asdict(found))
        return
    say(f"{'k':>7} {'J':>6} {known.parameter:>14} {'Kendall':>9}")
    for choice in found.curve:
        mark = "  best" if choice == found.best else ""
        value = choice.ridge / known.unit(width, choice.k)
        say(f"{choice.k:7} {choice.ensemble:6} {value:14.5g} {choice.kendall:9.4f}{mark}")
