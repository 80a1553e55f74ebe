"""The error budget of a trajectory attribution: from retraining down to what is cheap, one loss at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from array_api_compat import array_namespace
from numpy import ndarray as Array

from trak_theory.numerics.agreement import agreement
from trak_theory.numerics.checks import positive_count
from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.attributions import estimate
from trak_theory.trajectory.query import as_query
from trak_theory.trajectory.run import Run, astype, held
from trak_theory.trajectory.sweep.reverse import Settings
from trak_theory.trajectory.truth import Truth

Source = Literal["algorithm", "config", "system"]


@dataclass(frozen=True, eq=False)
class ErrorLevels:
    """Ordered levels, name → influence (g, q) of the truth's groups; each gives up one more thing than the one above.

    truth                nothing: retraining
    frozen push          the path after the sample's own steps: linear, with exact Hessians
    two-step             moments exact through the run's young steps: through one step only
    exact push           moments exact through the next step: linear
    first order          the exact step itself: the derivative, AdamW-influence
    Gauss–Newton         ∇²f in the Hessian
    no curvature         the Hessian
    SGD formula          the optimiser                                                        (config)
    horizon              the read-out at θ_T: a change is read off K + 1 steps later
    precision            float64                                                              (system)
    checkpoints          all states but every c-th: a step uses the last state kept           (system)

    `sources` says what kind of error a level adds; algorithm unless noted above.
    """

    levels: dict[str, Array]
    sources: dict[str, Source]
    truth: Truth = field(repr=False)

    def table(self) -> list[dict[str, float | str]]:
        """Tidy rows: every level against the truth, and against the level above it.

        gap = ‖level − other‖/‖truth‖, mean over queries: the differences from level to level sum to the whole error.
        """
        names = list(self.levels)
        comparisons = [("truth", name) for name in names[1:]]
        comparisons += [pair for pair in pairwise(names) if pair[0] != "truth"]
        size = np.linalg.norm(self.levels["truth"], axis=0)
        rows = []
        for above, name in comparisons:
            gap = np.linalg.norm(self.levels[name] - self.levels[above], axis=0) / size
            measures = agreement(self.levels[above], self.levels[name]).row()
            rows.append({"level": name, "against": above, "source": self.sources[name], "gap": gap.mean(), **measures})
        return rows


def error_levels(
    truth: Truth, query: Tensor, *, horizon: int = 0, precision: str = "float32", every: int = 10
) -> ErrorLevels:
    """Climb down from retraining to the cheapest trajectory attribution of the truth's groups, in its convention.

    query as in `attribute`; horizon K, precision and checkpoint spacing c of the last three levels. The lowest level is
    a gradient product at kept checkpoints, Σ_t η_t ⟨∇f, ∇ℓ_i⟩/|B|: TracIn (Pruthi et al. 2020) for horizon 0.
    """
    run = truth.run
    query = as_query(query, run.final)
    levels = {"truth": truth.influence(query)}
    sources: dict[str, Source] = {}
    for name, source, view, settings in _descent(run, horizon, precision, positive_count("every", every)):
        levels[name] = truth.matching(estimate(view, query, settings, truth.convention))
        sources[name] = source
    return ErrorLevels(levels, sources, truth)


def _descent(run: Run, horizon: int, precision: str, every: int) -> Iterator[tuple[str, Source, Run, Settings]]:
    settings = Settings("frozen-push")
    yield "frozen push", "algorithm", run, settings
    changes: list[tuple[str, Source, dict[str, Any]]] = [
        ("two-step", "algorithm", {"estimator": "two-step"}),
        ("exact push", "algorithm", {"estimator": "exact-push"}),
        ("first order", "algorithm", {"estimator": "first-order"}),
        ("Gauss–Newton", "algorithm", {"curvature": "ggn"}),
        ("no curvature", "algorithm", {"curvature": "none"}),
        ("SGD formula", "config", {"estimator": "sgd"}),
        ("horizon", "algorithm", {"horizon": horizon}),
    ]
    for name, source, change in changes:
        settings = replace(settings, **change)
        yield name, source, run, settings
    rounded = astype(run, getattr(array_namespace(run.final), precision))
    yield "precision", "system", rounded, settings
    yield "checkpoints", "system", held(rounded, every), settings
