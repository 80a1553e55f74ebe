"""The ladder of approximations from the exact leave-one-out influence down to TRAK."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from numpy.typing import ArrayLike

from trak_theory.attribution import (
    influence,
    newton,
    trak,
    trak_as_released,
    trak_kernel,
    trak_mean_factors,
    trak_over_models,
)
from trak_theory.errors import RankDeficientError, require
from trak_theory.glm.model import GLM, Fit
from trak_theory.linearization import Linearization, unit_curvature
from trak_theory.loo.exact import LeaveOneOut, leave_one_out
from trak_theory.numerics.agreement import agreement
from trak_theory.projection.matrices import Sketch

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Ladder:
    """Ordered rungs, name → attribution (n, q); each gives up one more thing than the rung above it.

    exact               nothing
    newton              the minimiser: one Newton step
    influence           the leverage denominator
    unit curvature      D → I in the Hessian
    no ridge            the model's own ridge (→ μ)
    projected           all but k random dimensions
    ensemble            the variance of `projected`, averaged over projections
    models              one fitted model: the mean of TRAK over fitted models           (when models are given)
    mean factors        the mean of products: mean kernel × mean residual               (when models are given)
    as released         scale and precision                                             (when models are given)

    `unavailable` names the rungs that do not exist for this model, with the reason. `truth` is rung 0 with radii.
    """

    rungs: dict[str, Array]
    unavailable: dict[str, str]
    truth: LeaveOneOut = field(repr=False)

    def table(self) -> list[dict[str, float | str]]:
        """Tidy rows: every rung against the exact influence (`against` = exact) and against the rung above it."""
        names = list(self.rungs)
        comparisons = [("exact", name) for name in names[1:]]
        comparisons += [pair for pair in pairwise(names) if pair[0] != "exact"]
        return [
            {"rung": name, "against": above, **agreement(self.rungs[above], self.rungs[name]).row()}
            for above, name in comparisons
        ]

    def plot(self) -> Figure:
        """Relative error and Kendall's τ of every rung against the exact influence, with standard errors."""
        require("matplotlib")
        from matplotlib.figure import Figure

        rows = [row for row in self.table() if row["against"] == "exact"]
        names = [row["rung"] for row in rows]
        figure = Figure(figsize=(6.5, 2.8), layout="constrained")
        for axis, measure, label in zip(
            figure.subplots(1, 2),
            ("relative_error", "kendall"),
            ("relative error ‖T − I‖/‖I‖", "Kendall's τ with the exact influence"),
            strict=True,
        ):
            values, errors = ([row[key] for row in rows] for key in (measure, f"{measure}_se"))
            axis.errorbar(values, names, xerr=errors, fmt="o", color="black", markersize=4)
            axis.set_xlabel(label)
            axis.invert_yaxis()
        figure.axes[0].set_xscale("log")
        figure.axes[1].set_yticklabels([])
        return figure


def ladder(
    fit: Fit,
    queries: ArrayLike,
    *,
    k: int,
    ensemble: int = 1,
    ridge: float = 0.0,
    kind: Sketch = "normal",
    models: Sequence[Linearization] = (),
    rng: Generator,
) -> Ladder:
    """Climb down from exact leave-one-out to TRAK for a fitted GLM.

    queries (q, p); k the projected dimension, `ensemble` the number of projections averaged, `ridge` the μ of the
    projected kernel, `models` linearisations of further fits of the same points (see `subset_models`) for the rungs
    that average over models. Every rung is computed on its own path from the linearisation, shares its random
    projections with its neighbours, and is (n, q) in the presence sign.
    """
    lin, truth = fit.linearize(queries), leave_one_out(fit, queries)
    kernel = trak_kernel(lin, ridge=ridge)
    seed = int(rng.integers(2**63))
    settings: dict[str, Any] = {"k": k, "ridge": ridge, "kind": kind}

    def same() -> Generator:
        return np.random.default_rng(seed)

    steps: dict[str, Callable[[], Array]] = {
        "exact": lambda: truth.influence,
        "newton": lambda: newton(lin),
        "influence": lambda: influence(lin),
        "unit curvature": lambda: influence(unit_curvature(lin)),
        "no ridge": lambda: influence(kernel),
        "projected": lambda: trak(lin, **settings, rng=same()),
        "ensemble": lambda: trak(lin, ensemble=ensemble, **settings, rng=same()),
    }
    if models:
        steps |= {
            "models": lambda: trak_over_models(models, **settings, rng=same()),
            "mean factors": lambda: trak_mean_factors(models, **settings, rng=same()),
            "as released": lambda: trak_as_released(models, **settings, rng=same()),
        }
    return Ladder(*climb_down(steps), truth)


def climb_down(steps: Mapping[str, Callable[[], Array]]) -> tuple[dict[str, Array], dict[str, str]]:
    """The rungs that exist, name → attribution (n, q), and the others, name → why their Hessian is singular."""
    rungs: dict[str, Array] = {}
    unavailable: dict[str, str] = {}
    for name, rung in steps.items():
        try:
            rungs[name] = rung()
        except RankDeficientError as error:
            unavailable[name] = str(error)
    return rungs, unavailable


def subset_models(
    glm: GLM, queries: ArrayLike, *, count: int, fraction: float = 0.5, rng: Generator
) -> list[Linearization]:
    """`count` refits of a GLM on random subsets, each linearised at all n points: TRAK's ensemble of models.

    Points outside a subset keep their row, with the residual that the refit gives them. The ridge shrinks with the
    subset, as it would for a mean loss with weight decay.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie in (0, 1), got {fraction}")
    n = glm.targets.size
    models = []
    for child in rng.spawn(count):
        chosen = np.zeros(n)
        chosen[child.choice(n, max(2, round(fraction * n)), replace=False)] = 1.0
        part = GLM(
            glm.features,
            glm.targets,
            loss=glm.loss,
            ridge=glm.ridge * fraction,
            weights=glm.weights * chosen,
            offset=glm.offset,
        ).fit()
        residual = glm.weights * glm.loss.residual(glm.targets, part.outputs)
        curvature = glm.weights * glm.loss.curvature(glm.targets, part.outputs)
        models.append(Linearization(glm.features, residual, curvature, glm.ridge, np.asarray(queries)))
    return models
