"""Projected dimension, ensemble and ridge with the best predicted ranking for a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike
from scipy.special import erf

from trak_theory.attribution import influence
from trak_theory.errors import require
from trak_theory.laws.conditional_rank_law import RandomScores, spread_triples
from trak_theory.laws.kernel_limit import kernel_limit
from trak_theory.laws.rank_law import rank_law_of
from trak_theory.laws.state_evolution import state_evolution
from trak_theory.linearization import Linearization
from trak_theory.numerics.checks import positive_count
from trak_theory.numerics.spectrum import Spectrum, spectrum
from trak_theory.projection.kernel_law import KernelLaw
from trak_theory.retraining.restored import weighted
from trak_theory.retraining.ridge_rule import TrainingRecipe, ridge_rule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cost = Callable[[int, int], float]
PAIRS = 4_000
RIDGES = 33
MOST_PROJECTIONS = 10_000


@dataclass(frozen=True)
class Choice:
    """One setting of TRAK and its predicted Kendall with the reference; ridge μ, implicit ridge γ, sum convention."""

    k: int
    ensemble: int
    ridge: float
    implicit_ridge: float
    kendall: float
    cost: float


@dataclass(frozen=True)
class Plan:
    """best: the setting with the largest predicted Kendall; curve: the best ridge for every k, in the order of k.

    limit: Kendall of the best unprojected unit-curvature kernel, which no k exceeds by more than noise; None a priori.
    grid: every setting that was tried, where all of them are kept.
    """

    best: Choice
    curve: tuple[Choice, ...]
    limit: float | None
    grid: tuple[Choice, ...] = ()

    def plot(self) -> Figure:
        """Predicted Kendall and the ridge μ that gives it against k."""
        require("matplotlib")
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.5, 2.8), layout="constrained")
        kendall, ridge = figure.subplots(1, 2)
        k = [choice.k for choice in self.curve]
        kendall.plot(k, [choice.kendall for choice in self.curve], "o-", color="black", markersize=4)
        kendall.plot(self.best.k, self.best.kendall, "o", color="tab:orange", markersize=7)
        if self.limit is not None:
            kendall.axhline(self.limit, color="0.5", linestyle=":", label="no projection")
            kendall.legend(frameon=False)
        ridge.plot(k, [choice.ridge for choice in self.curve], "o-", color="black", markersize=4)
        ridge.set_yscale("symlog", linthresh=max(min((c.ridge for c in self.curve if c.ridge), default=1.0), 1e-12))
        for axis, label in ((kendall, "predicted Kendall's τ"), (ridge, "best projected ridge μ")):
            axis.set_xscale("log")
            axis.set_xlabel("projected dimension k")
            axis.set_ylabel(label)
        return figure


def plan_projection(
    lin: Linearization,
    *,
    recipe: TrainingRecipe | float,
    budget: float,
    fraction: float | None = None,
    cost: Cost | None = None,
    dimensions: Sequence[int] | None = None,
) -> Plan:
    """The setting of trak(lin, k=k, ensemble=J, ridge=μ) whose ranks will be nearest to a fixed reference.

    reference  −r_i φ_iᵀ(ΦᵀDΦ + λI)⁻¹φ*_j with λ of `ridge_rule` for the recipe (or for the training ridge, a number)
               and, where retraining on subsets is the aim, their `fraction`. Agreement with the kernel at the same
               implicit ridge is not the objective: a huge μ maximises it.
    budget     the most that cost(k, J) may be; by default k·J, the numbers to store per point
    dimensions the k to try; default a geometric grid up to min(p, budget)

    For every k the largest affordable J and the best μ on a logarithmic grid. Kendall is predicted as in
    `conditional_rank_law`, from 4,000 pairs of points. Source: ours.
    """
    space = spectrum(lin.features, lin.queries)
    rule = ridge_rule(lin, recipe, fraction=fraction)
    reference = influence(weighted(space, lin.residual, lin.curvature, rule.curvature_weighted))
    return plan_against(
        reference,
        lin.residual,
        space,
        _affordable(space.p, budget, cost, dimensions),
    )


def plan_against(
    reference: Array, residual: Array, space: Spectrum, settings: Sequence[tuple[int, int, float]]
) -> Plan:
    """`plan_projection` for a reference (n, q) and given (k, J, cost)."""
    first, second, _ = spread_triples(len(reference))[:, :PAIRS]
    sign = np.sign(reference[first] - reference[second])
    grid: list[Choice] = []
    limit = -1.0
    for implicit in _implicit_ridges(space, [k for k, _, _ in settings]).tolist():
        freedom = space.degrees_of_freedom(implicit)
        beyond = space.rank + 1
        law = KernelLaw(space, beyond, 1, space.projected_ridge(implicit, beyond))
        scores = RandomScores(residual, law, np.ones(len(reference), bool))
        mean, variance = scores.differences(first, second)
        signal, unit = sign * mean, np.sqrt(2 * variance / law.noise)
        limit = max(limit, float(np.mean(np.sign(signal))))
        for k, ensemble, price in settings:
            if freedom > k * (1 + 1e-9):
                continue
            freedom = k - space.second_degrees_of_freedom(implicit)
            kendall = float(np.mean(erf(signal / (unit * implicit / np.sqrt(ensemble * freedom)))))
            grid.append(Choice(k, ensemble, max(space.projected_ridge(implicit, k), 0.0), implicit, kendall, price))
    best = {choice.k: choice for choice in sorted(grid, key=lambda choice: choice.kendall)}
    curve = tuple(best[k] for k, _, _ in settings if k in best)
    return Plan(max(curve, key=lambda choice: choice.kendall), curve, limit, tuple(grid))


def _implicit_ridges(space: Spectrum, dimensions: Sequence[int]) -> Array:
    """A logarithmic grid of γ up to where all of the spectrum is shrunk, and γ(k, 0) of every k below the rank."""
    unridged = [space.implicit_ridge(k) for k in dimensions if k < space.rank]
    top = space.eigenvalues.max()
    low = max(min(unridged, default=0.0), 1e-6 * top)
    return np.union1d(np.geomspace(low, top, RIDGES), unridged)


def plan_a_priori(
    *,
    n: int,
    p: int,
    ridge: float,
    budget: float,
    spectrum: ArrayLike | None = None,
    signal: ArrayLike = 1.0,
    loss: str = "squared",
    noise: float | None = 1.0,
    cost: Cost | None = None,
    dimensions: Sequence[int] | None = None,
) -> Plan:
    """`plan_projection` with nothing fitted: Gaussian features with this covariance spectrum (p,), `rank_law`.

    The reference is exact leave-one-out influence of the model with this ridge λ (sum convention).

    >>> plan = plan_a_priori(n=60, p=30, ridge=1.0, budget=20)
    >>> plan.best.k * plan.best.ensemble <= 20
    True
    """
    state = state_evolution(
        n=n, p=p, ridge=ridge, signal=signal, loss=loss, noise=noise if loss == "squared" else None, spectrum=spectrum
    )
    total = float(n * (p if spectrum is None else np.sum(spectrum)))
    curve = []
    for k, ensemble, price in _affordable(p, budget, cost, dimensions):
        ridges = [*([0.0] if k < min(n, p) else []), *(total * np.geomspace(1e-6, 1.0, RIDGES)).tolist()]
        found = [rank_law_of(state, k=k, projected_ridge=mu, ensemble=ensemble).kendall for mu in ridges]
        mu = ridges[int(np.argmax(found))]
        implicit = kernel_limit(state.design, k=k, projected_ridge=mu).implicit_ridge
        curve.append(Choice(k, ensemble, mu, float(implicit), float(max(found)), price))
    return Plan(max(curve, key=lambda choice: choice.kendall), tuple(curve), None)


def _affordable(
    p: int, budget: float, cost: Cost | None, dimensions: Sequence[int] | None
) -> list[tuple[int, int, float]]:
    """(k, largest affordable J, its cost) for every k that can be afforded once."""
    price = cost if cost is not None else (lambda k, ensemble: float(k * ensemble))
    if not (np.isfinite(budget) and budget > 0):
        raise ValueError(f"budget must be positive and finite, got {budget}")
    if dimensions is None:
        top = p if cost is not None else int(min(p, budget))
        dimensions = sorted({int(k) for k in np.round(np.geomspace(min(16, top), max(top, 1), 12))}) if top else []
    settings = []
    for k in dimensions:
        if positive_count("k", k) > p:
            raise ValueError(f"k = {k} exceeds p = {p}: a projection cannot add dimensions")
        if price(k, 1) <= budget:
            ensemble = _largest(lambda count, k=k: price(k, count) <= budget)  # type: ignore[misc]
            settings.append((k, ensemble, float(price(k, ensemble))))
    if not settings:
        raise ValueError(f"the budget {budget:g} does not pay for a single projection; raise it or try a smaller k")
    return settings


def _largest(affordable: Callable[[int], bool]) -> int:
    """The largest count up to 10,000 that is affordable, for a cost that grows with it."""
    low, high = 1, MOST_PROJECTIONS
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if affordable(middle) else (low, middle - 1)
    return low
