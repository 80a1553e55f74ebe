"""Horizon of look-ahead selection, tuned together with the learning rate, and what the comparison supports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product
from math import ceil, comb, log2
from typing import Literal, Required, TypedDict, Unpack, get_args

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.convention import one_of
from trak_theory.trajectory.objective import Objective
from trak_theory.trajectory.optimizer.recipes import Optimizer
from trak_theory.trajectory.query import as_numpy
from trak_theory.trajectory.selection.gain import Gain, paired_gain
from trak_theory.trajectory.selection.longer import train_longer
from trak_theory.trajectory.selection.select import Policy, Selection, select
from trak_theory.trajectory.sweep.push import Estimator

Search = Literal["grid", "halving"]
Equal = Literal["steps", "compute"]

MIN_TASKS = 3  # to choose a horizon by an interval over two of them and judge it on the third


class Choice(TypedDict, total=False):
    """How `select` chooses."""

    keep: Required[float]
    policy: Policy
    horizon: int | None
    estimator: Estimator
    rng: Generator | None


@dataclass(frozen=True, eq=False)
class Task:
    """One replicate of a selection problem: data, start and order of the candidates.

    judge: samples whose mean loss decides at the end of training; neither candidates nor validation, which a policy
    that looks at the validation loss has fitted.
    """

    objective: Objective
    start: Tensor = field(repr=False)
    candidates: Sequence[Tensor] = field(repr=False)
    validation: Tensor = field(repr=False)
    judge: Tensor = field(repr=False)

    def select(self, optimizer: Optimizer, **how: Unpack[Choice]) -> Selection:
        """`select` on this task; `how` says keep, policy, horizon, estimator, rng."""
        return select(self.objective, self.candidates, self.validation, optimizer, start=self.start, **how)

    def judged(self, theta: Tensor) -> float:
        """The mean judge loss at θ."""
        return float(as_numpy(self.objective.loss(theta, np.asarray(self.judge))).mean())

    def longer(
        self, optimizer: Optimizer, multiples: Sequence[float], *, keep: float, rng: Generator
    ) -> list[tuple[Tensor, Tensor]]:
        """`train_longer` on this task for each multiple of its steps: θ at the end, and θ of lowest validation loss."""
        ends = [max(1, round(multiple * len(self.candidates))) for multiple in multiples]
        found = train_longer(
            self.objective,
            self.candidates,
            self.validation,
            optimizer,
            start=self.start,
            keep=keep,
            ends=ends,
            rng=rng,
        )
        return [found[end] for end in ends]


@dataclass(frozen=True, eq=False)
class HorizonMap:
    """Judge losses of every learning rate (r), horizon (h) and replicate (m), and the horizon that pays, K*(η).

    losses (r, h, m)     NaN where halving dropped the pair; horizons hold None for the end of the run
    random (r, m)        of random selection on the same replicates and for as many steps
    longer (r, h, m)     of random selection with the compute of each horizon, stopped at its lowest validation loss
    multiples (r, h)     cost of a step against a plain one, in sample gradients
    geometry             whose step the scores believe in: the optimiser's, or SGD's for the estimator "sgd"
    """

    learning_rates: tuple[float, ...]
    horizons: tuple[int | None, ...]
    losses: Array
    random: Array
    longer: Array
    multiples: Array
    geometry: str

    def best(self, rate: float) -> int | None:
        """K*(η): the lowest mean loss, among the horizons run on the most tasks."""
        return self.horizons[int(np.argmin(self._means(self.losses[self._row(rate)])))]

    def cheapest(self, rate: float) -> int | None:
        """The cheapest horizon without a difference from K*(η): the interval of their paired gain covers zero.

        Only horizons better on average than all cheaper ones: a wide interval is no merit.
        """
        return self.horizons[self._cheapest(self._row(rate))]

    def gain(self, rate: float, horizon: int | None, *, at_equal: Equal = "steps") -> Gain:
        """Over random selection for as many steps, or with as much compute; one interval for itself."""
        row, column = self._row(rate), self.horizons.index(horizon)
        return paired_gain(self.losses[row, column], self._reference(at_equal)[row, column])

    def chosen_gain(self, rate: float, *, at_equal: Equal = "steps") -> Gain:
        """The gain of the rule `cheapest` over random, the rule applied to all replicates but the one it is judged on.

        Free of the optimism of judging a choice on the runs that it was made on.
        """
        row, reference = self._row(rate), self._reference(at_equal)
        seen = np.flatnonzero(~np.isnan(self.random[row]))
        pairs = [(self._cheapest(row, int(k)), k) for k in seen]
        return paired_gain([self.losses[row][pair] for pair in pairs], [reference[row][pair] for pair in pairs])

    def pays(self, rate: float) -> bool:
        """True if the choice of `cheapest` is better than random selection with the same compute, beyond its error."""
        return self.chosen_gain(rate, at_equal="compute").low > 0

    def table(self) -> list[dict[str, float | str]]:
        """Tidy rows: each horizon against random, and against K* of its learning rate, with simultaneous intervals."""
        rows: list[dict[str, float | str]] = []
        for rate, horizon in product(self.learning_rates, self.horizons):
            row, column = self._row(rate), self.horizons.index(horizon)
            losses = self.losses[row, column]
            best = int(np.argmin(self._means(self.losses[row])))
            against = None if column == best else self._against(self.losses[row], column, best)
            rows.append(
                {
                    "learning_rate": rate,
                    "horizon": name_of(horizon),
                    "loss": float(np.nanmean(losses)),
                    "multiple": float(self.multiples[row, column]),
                    "gain_over_random": str(self.gain(rate, horizon)),
                    "gain_at_equal_compute": str(self.gain(rate, horizon, at_equal="compute")),
                    "gain_over_best": "best" if against is None else str(against),
                }
            )
        return rows

    def recipe(self) -> str:
        """One line for each learning rate, the one with the lowest loss first: what to run, its price and its gain."""
        means = [np.nanmean(self.losses[row, self._cheapest(row)]) for row in range(len(self.learning_rates))]
        return "\n".join(self._line(self.learning_rates[row]) for row in np.argsort(means))

    def _line(self, rate: float) -> str:
        cheapest, best, row = self.cheapest(rate), self.best(rate), self._row(rate)
        multiple = self.multiples[row, self.horizons.index(cheapest)]
        line = (
            f"at lr {rate:g}: K = {name_of(cheapest)} with {self.geometry} geometry; costs {multiple:.3g}× a plain "
            f"step in sample gradients; gain over random {self.chosen_gain(rate)} at equal steps, "
            f"{self.chosen_gain(rate, at_equal='compute')} at equal compute"
        )
        if not self.pays(rate):
            line += ": train on random samples for longer instead"
        if cheapest == best:
            return line
        against = self._against(self.losses[row], self.horizons.index(cheapest), self.horizons.index(best))
        return f"{line}; against K = {name_of(best)}: {against}"

    def _reference(self, at_equal: Equal) -> Array:
        """Losses (r, h, m) of random selection."""
        one_of("at_equal", at_equal, get_args(Equal))
        if at_equal == "compute":
            return self.longer
        return np.broadcast_to(self.random[:, None, :], self.losses.shape)

    def _row(self, rate: float) -> int:
        return self.learning_rates.index(rate)

    def _means(self, losses: Array) -> Array:
        """The mean of each horizon in losses (h, m); ∞ for those that were dropped before others."""
        counts = np.sum(~np.isnan(losses), axis=1)
        return np.array(
            [np.nanmean(own) if c == counts.max() else np.inf for own, c in zip(losses, counts, strict=True)]
        )

    def _cheapest(self, row: int, leave_out: int | None = None) -> int:
        losses = self.losses[row] if leave_out is None else np.delete(self.losses[row], leave_out, axis=1)
        means, order = self._means(losses), np.argsort(self.multiples[row], kind="stable")
        best = int(np.argmin(means))
        worthy = [column for k, column in enumerate(order) if means[column] < np.min(means[order[:k]], initial=np.inf)]
        return next(int(k) for k in worthy if k == best or not self._against(losses, k, best).differs)

    def _against(self, losses: Array, column: int, best: int) -> Gain:
        """The gain over the best horizon; the level holds for all pairs, whichever of them turns out best."""
        return paired_gain(losses[column], losses[best], comparisons=comb(len(self.horizons), 2))


def tune_horizon(
    tasks: Sequence[Task],
    optimizer: Callable[[float], Optimizer],
    *,
    learning_rates: Sequence[float],
    horizons: Sequence[int | None],
    keep: float,
    rng: Generator,
    search: Search = "grid",
    estimator: Estimator = "first-order",
) -> HorizonMap:
    """Select with every horizon at every learning rate on the same tasks, beside random selection.

    optimizer: learning rate ↦ optimiser. grid runs all pairs on all tasks; halving runs all pairs on a few tasks, then
    again and again the better half of them (by mean judge loss) on twice as many. Random selection runs twice: for as
    many steps, and for as much compute as each horizon took, see `train_longer`. A run that diverges raises with its
    step: leave that learning rate out.
    """
    one_of("search", search, get_args(Search))
    if len(tasks) < MIN_TASKS:
        raise ValueError(f"a choice is judged on tasks left out: pass at least {MIN_TASKS} tasks, got {len(tasks)}")
    for name, values in (("learning_rates", learning_rates), ("horizons", horizons)):
        if not values or len(set(values)) != len(values):
            raise ValueError(f"{name} must be non-empty and without repetitions, got {list(values)}")
    shape = (len(learning_rates), len(horizons))
    losses, costs = (np.full((*shape, len(tasks)), np.nan) for _ in range(2))
    alive = list(np.ndindex(shape))
    for first, last in _rounds(search, len(alive), len(tasks)):
        for (row, column), k in product(alive, range(first, last)):
            how: Choice = {"keep": keep, "horizon": horizons[column], "estimator": estimator}
            chosen = tasks[k].select(optimizer(learning_rates[row]), **how)
            losses[row, column, k], costs[row, column, k] = tasks[k].judged(chosen.final), chosen.multiple
        if last < len(tasks):
            alive.sort(key=lambda pair: losses[pair][:last].mean())
            alive = alive[: ceil(len(alive) / 2)]
    made = [optimizer(rate) for rate in learning_rates]
    random, longer = _at_random(tasks, made, costs, keep, rng)
    geometry = "SGD" if estimator == "sgd" else type(made[0]).__name__
    multiples = np.nanmean(costs, axis=2)
    return HorizonMap(tuple(learning_rates), tuple(horizons), losses, random, longer, multiples, geometry)


def _at_random(
    tasks: Sequence[Task], optimizers: Sequence[Optimizer], costs: Array, keep: float, rng: Generator
) -> tuple[Array, Array]:
    """Judge losses of random selection for as many steps (r, m), and with the compute `costs` (r, h, m)."""
    random, longer = np.full(costs[:, 0].shape, np.nan), np.full(costs.shape, np.nan)
    for row, k in np.argwhere(~np.isnan(costs).all(1)):
        chosen = tasks[k].select(optimizers[row], keep=keep, policy="random", rng=rng)
        random[row, k] = tasks[k].judged(chosen.final)
        run = np.flatnonzero(~np.isnan(costs[row, :, k]))
        ends = tasks[k].longer(optimizers[row], costs[row, run, k].tolist(), keep=keep, rng=rng)
        longer[row, run, k] = [tasks[k].judged(stopped) for _, stopped in ends]
    return random, longer


def _rounds(search: Search, pairs: int, tasks: int) -> list[tuple[int, int]]:
    """(first, last) task of every round."""
    halvings = ceil(log2(pairs)) if search == "halving" else 0
    ends = sorted({max(MIN_TASKS, ceil(tasks / 2**k)) for k in range(halvings + 1)})
    return list(pairwise([0, *ends]))


def name_of(horizon: int | None) -> str:
    return "to the end" if horizon is None else str(horizon)
