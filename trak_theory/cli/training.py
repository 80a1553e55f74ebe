"""Options that describe a training run, and the recipe they make."""

from __future__ import annotations

from typing import Annotated

import typer

from trak_theory.retraining.ridge_rule import TrainingRecipe

WeightDecay = Annotated[float | None, typer.Option(help="Of the training, on the mean loss.")]
LearningRate = Annotated[float | None, typer.Option(help="Of the training, with --steps.")]
Steps = Annotated[int | None, typer.Option(help="Of the training.")]
Momentum = Annotated[float, typer.Option(help="Of the training.")]
TrainingRidge = Annotated[float | None, typer.Option(help="Instead of a recipe, sum convention.")]
Fraction = Annotated[float | None, typer.Option(help="The truth is retraining on subsets of this share.")]


def recipe_from(
    weight_decay: float | None, rates: object, steps: int | None, momentum: float, training_ridge: float | None
) -> TrainingRecipe | float | None:
    """The recipe, or the training ridge, that the options give; None if they give neither."""
    if steps is not None and rates is None:
        raise ValueError("--steps needs --learning-rate")
    if training_ridge is not None:
        if rates is not None or weight_decay is not None:
            raise ValueError("give a training ridge or a recipe, not both")
        return training_ridge
    if rates is None and weight_decay is None:
        return None
    if rates is None or weight_decay is None:
        raise ValueError("a recipe needs the weight decay (0 if there was none) and the learning rates")
    return TrainingRecipe(weight_decay, rates, steps=steps, momentum=momentum)
