"""Does the a-priori law predict how well TRAK's ranking agrees with exact leave-one-out influence?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from trak_theory import GLM, Fit, Loss, agreement, leave_one_out, trak
from trak_theory.laws.channels import Channel, channel_of
from trak_theory.laws.rank_law import RankLaw, rank_law_of
from trak_theory.laws.state_evolution import state_evolution
from trak_theory.losses import as_loss

QUERIES = 20
SIGNAL = 2.0
MEASURES = ("pearson", "kendall", "spearman", "slope", "top_overlap")
SETTINGS = ((1, 0.0), (10, 0.0), (1, 0.05))  # projections averaged, projected ridge / n
DATA_STEPS = (0.04, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 0.95, 0.98, 1.0)  # k / min(n, p)
LAW_STEPS = (0.01, 0.02, *np.linspace(0.04, 0.97, 32).round(3).tolist(), 0.98, 0.99, 0.995, 1.0)


@dataclass(frozen=True, eq=False)
class DataSet:
    """A fitted data set of the laws' random design with query rows (q, p): the truth, and TRAK against it."""

    fit: Fit
    queries: Array
    signal: Array  # θ* (p,)

    @cached_property
    def truth(self) -> Array:
        return leave_one_out(self.fit, self.queries).influence

    @property
    def outlier(self) -> float:
        """The largest influence in medians of its query."""
        size = np.abs(self.truth)
        return float((size.max(0) / np.median(size, 0)).max())

    def measure(self, *, k: int, projected_ridge: float, ensemble: int, rng: Generator) -> dict[str, float]:
        lin = self.fit.linearize(self.queries)
        scores = trak(lin, k=k, ensemble=ensemble, ridge=projected_ridge, rng=rng)
        found = agreement(self.truth, scores)
        return {name: float(getattr(found, name)) for name in MEASURES}


def draw(
    *,
    n: int,
    p: int,
    ridge: float,
    signal: float,
    loss: str | Loss = "logistic",
    noise: float | None = None,
    channel: Channel | None = None,
    spectrum: Array | None = None,
    scales: Array | None = None,
    rng: Generator,
) -> DataSet:
    """Rows c_i Σ^½ g_i and query rows Σ^½ g, Σ diagonal; θ* with independent normal coordinates, ‖Σ^½θ*‖ = signal."""
    loss = as_loss(loss)
    deviations = np.ones(p) if spectrum is None else np.sqrt(spectrum)
    coef = rng.standard_normal(p)
    coef *= signal / np.linalg.norm(deviations * coef)
    rows = rng.standard_normal((n, p)) * deviations
    if scales is not None:
        rows *= scales[:, None]
    channel = channel_of(loss, noise) if channel is None else channel
    targets = channel.sample(rows @ coef, rng)
    queries = rng.standard_normal((QUERIES, p)) * deviations
    return DataSet(GLM(rows, targets, loss=loss, ridge=ridge).fit(), queries, coef)


def law_row(law: RankLaw) -> dict[str, Any]:
    return {**{name: getattr(law, name) for name in MEASURES}, "warnings": "; ".join(law.warnings)}


def run(params: Params, rng: Generator) -> Rows:
    """All (k, J, μ) for one design: the law on a fine grid of k, or one data set on a coarse one."""
    n, p = int(params["n"]), round(float(params["p_over_n"]) * int(params["n"]))
    ridge = float(params["ridge_over_n"]) * n
    shared: dict[str, Any] = {"p": p, "ridge": ridge, "signal": SIGNAL, "queries": QUERIES}
    if params["part"] == "law":
        state = state_evolution(n=n, p=p, ridge=ridge, signal=SIGNAL)
        return [{**shared, **row, **law_row(rank_law_of(state, **row))} for row in settings(n, p, LAW_STEPS)]
    data = draw(n=n, p=p, ridge=ridge, signal=SIGNAL, rng=rng)
    return [
        {**shared, **row, **data.measure(**row, rng=rng), "outlier": data.outlier} for row in settings(n, p, DATA_STEPS)
    ]


def settings(n: int, p: int, steps: tuple[float, ...]) -> Iterator[dict[str, Any]]:
    """The (k, J, μ) for which a law exists: with μ = 0, k < n."""
    for ensemble, ridge_over_n in SETTINGS:
        for k in dict.fromkeys(max(1, round(step * min(n, p))) for step in steps):
            if ridge_over_n > 0 or k < n:
                yield {"k": k, "ensemble": ensemble, "projected_ridge": ridge_over_n * n}


def cells(n: int, replicates: int) -> list[Params]:
    designs: list[dict[str, Any]] = [
        {"n": n, "p_over_n": 0.2, "ridge_over_n": 0.002},
        {"n": n, "p_over_n": 0.6, "ridge_over_n": 0.02},
        {"n": n, "p_over_n": 2.0, "ridge_over_n": 0.02},
    ]
    parts: list[Params] = [*grid(part=["data"], replicate=range(replicates)), {"part": "law", "replicate": 0}]
    return [{**design, **part} for design in designs[::-1] for part in parts]


SUMMARY = "Does the a-priori law predict how well TRAK's ranking agrees with exact leave-one-out influence?"
STUDY = Study("rank_law", SUMMARY, run, quick=cells(400, 2), full=cells(400, 6) + cells(1000, 10), seconds=1.5)
