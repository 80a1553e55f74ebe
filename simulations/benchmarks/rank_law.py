"""Time of one a-priori rank law, for every loss and design."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import numpy as np
import typer
from scipy.stats import lognorm
from threadpoolctl import threadpool_limits

from simulations.benchmarks.timing import clock_of, machine, timed
from trak_theory.laws.rank_law import rank_law

BASE: dict[str, Any] = {"n": 1000, "p": 500, "k": 200, "ridge": 10.0, "signal": 1.0}
CELLS: dict[str, dict[str, Any]] = {
    "squared": {"loss": "squared"},
    "huber": {"loss": "huber"},
    "logistic": {},
    "logistic, signal 3": {"signal": 3.0},
    "logistic, p = 5 n": {"p": 5000},
    "logistic, power law": {"spectrum": np.arange(1.0, 501.0) ** -1.2},
    "logistic, elliptical": {"scales": lognorm(0.4)},
    "poisson": {"loss": "poisson"},
}


def main(repeats: Annotated[int, typer.Option(help="Counted runs; the median is shown.", min=1)] = 9) -> None:
    """One rank law: state evolution, TRAK and the influence function, every measure; one thread."""
    typer.echo(f"{machine()}; n = 1000, p = 500, k = 200; medians of {repeats} with [min, max]\n")
    typer.echo("| law | processor time |\n|---|---|")
    with threadpool_limits(1):
        for name, changes in CELLS.items():
            law = partial(rank_law, **{**BASE, **changes})
            typer.echo(f"| {name} | {timed(law, repeats=repeats, clock=clock_of(1))} |")
