"""Processor time of retrainings predicted by the twin, and how well it predicts them."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time
from typing import Annotated, TypeVar

import numpy as np
import typer
from numpy import ndarray as Array
from threadpoolctl import threadpool_limits

from simulations.benchmarks.timing import machine
from simulations.workloads.digits_mlp import PAPER_RECIPE, digits_network, random_subsets
from trak_theory import TrainingRecipe
from trak_theory.retraining import Twin, block_twin, twin

Result = TypeVar("Result")


def main(
    n: Annotated[int, typer.Option(help="Training points.", min=20)] = 1000,
    hidden: Annotated[int, typer.Option(help="Hidden units of the digits network.", min=2)] = 128,
    subsets: Annotated[int, typer.Option(help="Random half subsets.", min=5)] = 100,
    rank: Annotated[int, typer.Option(help="Coordinates of the softmax block.", min=1)] = 1500,
    seed: Annotated[int, typer.Option(help="Of data, network and subsets.")] = 0,
) -> None:
    """Margin and softmax-block twin of a digits network: build, group Newton and refit of every subset; one thread."""
    building, drawing, sketching, training = np.random.default_rng(seed).spawn(4)
    with threadpool_limits(1):
        digits = digits_network(n=n, hidden=hidden, rng=building)
        chosen = random_subsets(n, n // 2, subsets, drawing)
        recipe = TrainingRecipe(PAPER_RECIPE.weight_decay, PAPER_RECIPE.learning_rates, momentum=PAPER_RECIPE.momentum)
        lin = digits.margin_linearization()
        jacobian = digits.jacobian
        typer.echo(f"{machine()}; n = {n}, p = {lin.features.shape[1]}, {subsets} half subsets; processor seconds\n")
        typer.echo("| | build | group Newton | refit |\n|---|---|---|---|")
        _row("margin", lambda: twin(lin, recipe), chosen)
        _row(
            f"block, {rank} coordinates",
            lambda: block_twin(
                jacobian, digits.probabilities, digits.labels, lin.queries, recipe, rank=rank, rng=sketching
            ),
            chosen,
        )
        _, seconds = _timed(lambda: digits.retrain(chosen, training))
        typer.echo(f"\nretraining the network on the same subsets, all at once: {seconds:.1f}")


def _row(name: str, build: Callable[[], Twin], subsets: Array) -> None:
    model, building = _timed(build)
    _, stepping = _timed(lambda: model.group_newton(subsets))
    _, refitting = _timed(lambda: model.refit(subsets))
    typer.echo(f"| {name} | {building:.1f} | {stepping:.1f} | {refitting:.1f} |")


def _timed(run: Callable[[], Result]) -> tuple[Result, float]:
    start = process_time()
    found = run()
    return found, process_time() - start
