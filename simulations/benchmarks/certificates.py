"""Certified radii against the truth in sixty digits, on hostile problems without end."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import typer

from simulations.workloads.hostile_problems import report, survey


def main(
    radii: Annotated[int, typer.Option(help="Radii to examine, of all methods together.", min=1)] = 20_000,
    seed: Annotated[int, typer.Option(help="Seed of the problems.")] = 0,
) -> None:
    """Every radius of leave_one_out and newton_interval on families of hostile GLMs; exit status 1 if one is false.

    A ratio error/radius above 1 is a false radius; one far below 1 is a radius too wide. Infinite radii claim nothing.
    """
    verdicts = survey(np.random.default_rng(seed), radii)
    for line in report(verdicts):
        typer.echo(line)
    false = sum(len(verdict.false) for verdict in verdicts.values())
    typer.echo(f"{false} false of {sum(len(verdict.ratios) for verdict in verdicts.values())} radii")
    raise typer.Exit(int(false > 0))
