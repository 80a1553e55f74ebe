"""Exact leave-one-out against its floor, a pair of products, and against refits by scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer
from numpy import ndarray as Array
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from simulations.benchmarks.timing import Timing, clock_of, machine, side_by_side, timed
from trak_theory import GLM, Fit, LeaveOneOut, leave_one_out

SIZES = ((4000, 200), (1000, 200), (1000, 50))
RIDGE, SIGNAL, QUERIES, TOL = 1.0, 2.0, 10, 1e-9
REFITS = 20


@dataclass(frozen=True)
class Row:
    """One size and thread count: seconds of each method, all measured in this run."""

    n: int
    p: int
    threads: int
    pair: Timing
    ours: Timing
    cold: Timing
    warm: Timing
    radius: float  # largest certified radius relative to the query's rms influence
    unresolved: int

    def table_row(self) -> str:
        pairs = self.ours.median / self.pair.median
        cells = [
            f"({self.n}, {self.p})",
            f"{self.threads}",
            f"{self.pair}",
            f"{self.ours}",
            f"**{pairs:.1f}**",
            f"{self.cold.median * self.n / self.ours.median:.0f}×",
            f"{self.warm.median * self.n / self.ours.median:.0f}×",
            f"{self.radius:.0e}",
            f"{self.unresolved}",
        ]
        return "| " + " | ".join(cells) + " |"


HEADER = (
    "| (n, p) | threads | floor pair | leave-one-out, certified | in pairs | against cold refits | against warm refits "
    "| radius/rms | unresolved |\n|---|---|---|---|---|---|---|---|---|"
)


def main(
    repeats: Annotated[int, typer.Option(help="Counted runs of each method; the median is shown.", min=1)] = 5,
    seed: Annotated[int, typer.Option(help="Seed of the data.")] = 0,
) -> None:
    """Exact leave-one-out of a logistic GLM, all n points, fit given; refits by scikit-learn's newton-cholesky.

    Processor time of one thread, wall time of two. A floor pair is X@(XᵀA), X (n, p) and A (n, n). Refits (tol 1e-10)
    are timed on 20 left-out points and extrapolated to n; warm ones start at the full fit.
    """
    typer.echo(f"{machine()}; medians of {repeats} with [min, max]; refits: {REFITS} timed, extrapolated to n\n")
    typer.echo(HEADER)
    for threads in (1, 2):
        for n, p in SIZES:
            with threadpool_limits(threads):
                typer.echo(measure(n, p, threads=threads, repeats=repeats, rng=np.random.default_rng(seed)).table_row())


def measure(n: int, p: int, *, threads: int, repeats: int, rng: np.random.Generator) -> Row:
    features = rng.standard_normal((n, p))
    outputs = features @ rng.standard_normal(p) * SIGNAL / np.sqrt(p)
    targets = (rng.random(n) < 1 / (1 + np.exp(-outputs))).astype(float)
    queries, square = rng.standard_normal((QUERIES, p)), rng.standard_normal((n, n))
    fit = GLM(features, targets, loss="logistic", ridge=RIDGE).fit()
    exact = leave_one_out(fit, queries, tol=TOL)
    chosen = rng.choice(n, REFITS, replace=False)
    pair, ours = side_by_side(
        lambda: features @ (features.T @ square),
        lambda: leave_one_out(fit, queries, tol=TOL),
        repeats=repeats,
        clock=clock_of(threads),
    )
    return Row(
        n,
        p,
        threads,
        pair,
        ours,
        _per_refit(fit, chosen, warm=False, threads=threads),
        _per_refit(fit, chosen, warm=True, threads=threads),
        relative_radius(exact),
        len(exact.unresolved),
    )


def relative_radius(exact: LeaveOneOut) -> float:
    return float((exact.radius / np.sqrt(np.mean(exact.influence**2, axis=0))).max())


def _per_refit(fit: Fit, chosen: Array, *, warm: bool, threads: int) -> Timing:
    """Seconds of one scikit-learn refit without a point."""
    model = LogisticRegression(
        C=1 / RIDGE, fit_intercept=False, solver="newton-cholesky", tol=1e-10, max_iter=200, warm_start=warm
    )
    timings = []
    for i in chosen:
        features, targets = np.delete(fit.glm.features, i, 0), np.delete(fit.glm.targets, i)

        def run(features: Array = features, targets: Array = targets) -> None:
            if warm:
                model.classes_, model.intercept_ = np.array([0.0, 1.0]), np.zeros(1)
                model.coef_ = fit.coef[None].copy()
            model.fit(features, targets)

        timings.append(timed(run, repeats=1, clock=clock_of(threads)).median)
    return Timing(float(np.median(timings)), min(timings), max(timings))
