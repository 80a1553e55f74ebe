"""Operating table of the audit's alarms: how often healthy and corrupted scores raise one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

import numpy as np
import typer
from numpy import ndarray as Array
from numpy.random import Generator
from scipy.stats import rankdata
from threadpoolctl import threadpool_limits

from trak_theory import GLM, Linearization, trak
from trak_theory.auditing.checking.alarms import Calibration
from trak_theory.auditing.checking.score_draws import drawn
from trak_theory.numerics.agreement import agreement
from trak_theory.numerics.spectrum import spectrum
from trak_theory.projection.kernel_law import KernelLaw

N, Q = 400, 20
HEALTHY = ((50, 1), (50, 5), (100, 1), (400, 1), (N, Q))
SHARE_OF_RANK = {"μ = 0": 0.3, "μ > 0": 0.5, "k near rank": 0.9}
SCALE = 37.0  # a package's own factor, which no check may see
ONLY_HELP = "One corruption by name, without the healthy scores."
UNSEEN_HELP = "Families that had no part in the design of the alarms."


@dataclass(frozen=True)
class Family:
    """A kind of features: rows (n, p) of a data set; the same data with other weights is another model."""

    name: str
    sample: Callable[[int, Generator], Array]
    rows: Callable[[Array, Generator], Array]


def _digits(count: int, rng: Generator) -> Array:
    from sklearn.datasets import load_digits

    return load_digits().data[rng.permutation(1797)[:count]] / 16 - 0.3


def _relu(width: int) -> Callable[[Array, Generator], Array]:
    return lambda data, rng: np.maximum(data @ rng.standard_normal((data.shape[1], width)), 0.0) / np.sqrt(width)


def _heavy(data: Array, rng: Generator) -> Array:
    """Student's t with 3 degrees of freedom through a random map, with a power-law spectrum."""
    spread = rng.standard_t(3, (data.shape[1], 300)) * np.arange(1, 301) ** -0.6
    return data @ spread / 10


def _scaled(data: Array, rng: Generator) -> Array:
    """Columns in units of their own."""
    return data * np.exp(0.7 * rng.standard_normal(data.shape[1]))


FAMILIES = (
    Family("digits, ReLU features", _digits, _relu(800)),
    Family("Gaussian, ReLU features", lambda count, rng: rng.standard_normal((count, 20)), _relu(250)),
    Family("heavy-tailed features", lambda count, rng: rng.standard_t(3, (count, 120)), _heavy),
    Family("GLM design", lambda count, rng: rng.standard_normal((count, 60)), _scaled),
)


def _lengths_of_all_sizes(count: int, rng: Generator) -> Array:
    return rng.standard_normal((count, 60)) * rng.standard_t(2.5, (count, 1))


def _categories(count: int, rng: Generator) -> Array:
    """Fourteen categorical variables, one column a level."""
    shares = [rng.dirichlet(np.full(levels, 0.5)) for levels in rng.integers(4, 24, 14)]
    return np.hstack([np.eye(len(share))[rng.choice(len(share), count, p=share)] for share in shares])


def _crossed(data: Array, rng: Generator) -> Array:
    """The levels, and products of 200 pairs of them."""
    first, second = rng.integers(data.shape[1], size=(2, 200))
    return np.hstack([data, data[:, first] * data[:, second]])


def _cancer(count: int, rng: Generator) -> Array:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer().data[rng.permutation(569)[:count]]
    return (data - data.mean(0)) / data.std(0)


def _tangents(data: Array, rng: Generator) -> Array:
    """Gradients of a ReLU network with eight hidden units, unit output weights and a bias: no row is 0."""
    hidden = data @ rng.standard_normal((data.shape[1], 8)) / np.sqrt(data.shape[1])
    inner = (hidden > 0)[:, :, None] * data[:, None]
    return np.hstack([inner.reshape(len(data), -1), np.maximum(hidden, 0.0), np.ones((len(data), 1))])


def _four_times(count: int, rng: Generator) -> Array:
    return rng.standard_normal((count // 4 + 1, 60))[rng.integers(count // 4 + 1, size=count)]


def _clusters(count: int, rng: Generator) -> Array:
    return rng.standard_normal((5, 60))[rng.integers(5, size=count)] + 0.15 * rng.standard_normal((count, 60))


UNSEEN = (
    Family("lengths of all sizes", _lengths_of_all_sizes, _relu(250)),
    Family("categories and crosses", _categories, _crossed),
    Family("breast cancer, gradients of a ReLU network", _cancer, _tangents),
    Family("every row four times", _four_times, _relu(250)),
    Family("five tight clusters", _clusters, _relu(250)),
)


@dataclass(frozen=True, eq=False)
class Problem:
    """A fitted model, another one of the same data, and the first at an earlier checkpoint (ten times the ridge)."""

    lin: Linearization
    other: Linearization
    checkpoint: Linearization

    @staticmethod
    def drawn(family: Family, n: int, q: int, rng: Generator) -> Problem:
        data = family.sample(n + q, rng)
        direction = rng.standard_normal(data.shape[1])
        margin = (data - data.mean(0)) @ direction
        targets = (margin / margin.std() + rng.standard_normal(n + q) > 0)[:n]
        first, second = (family.rows(data, child) for child in rng.spawn(2))
        shuffled = np.where(rng.random(n) < 0.2, ~targets, targets)
        return Problem(
            _fitted(first, targets, 1.0), _fitted(second, shuffled, 1.0), _fitted(first + 0.1 * second, targets, 10.0)
        )


def _fitted(rows: Array, targets: Array, ridge: float) -> Linearization:
    n = len(targets)
    scale = np.sqrt(np.mean(np.sum(rows**2, 1)) / n)
    return GLM(rows[:n] / scale, targets, loss="logistic", ridge=ridge).fit().linearize(rows[n:] / scale)


@dataclass(frozen=True, eq=False)
class Cell:
    """Scores of a problem at one setting, and the calibration of their check."""

    problem: Problem
    k: int
    ridge: float
    calibration: Calibration

    @staticmethod
    def of(problem: Problem, regime: str, rng: Generator) -> Cell:
        return Cell.at(problem, SHARE_OF_RANK[regime], regime == "μ > 0", rng)

    @staticmethod
    def at(problem: Problem, share: float, ridged: bool, rng: Generator) -> Cell:
        """k is this share of the rank, and γ that of k/2 without a ridge, or μ = 0."""
        lin = problem.lin
        space = spectrum(lin.features, lin.queries)
        k = max(4, int(share * space.rank))
        ridge = space.projected_ridge(space.implicit_ridge(max(k // 2, 1)), k) if ridged else 0.0
        law = KernelLaw(space, k, 1, ridge)
        usable = np.ones(len(lin.residual), bool), np.ones(len(lin.queries), bool)
        draws = drawn(law, lin.residual, lin.queries @ lin.queries.T, usable)
        return Cell(problem, k, ridge, Calibration(draws, rng))

    def alarms(self, scores: Array) -> bool:
        return self.calibration.check(SCALE * scores).alarm

    def scores(self, rng: Generator, *, k: float = 1, ridge: float = 1, lin: Linearization | None = None) -> Array:
        """TRAK scores with k and μ times a factor, of this problem's model or another."""
        lin = self.problem.lin if lin is None else lin
        dimension = min(int(k * self.k), lin.features.shape[1])
        return trak(lin, k=dimension, ridge=ridge * self.ridge, rng=rng)


def _permuted(scores: Array, share: float, rng: Generator) -> Array:
    chosen = rng.choice(len(scores), max(2, round(share * len(scores))), replace=False)
    permuted = scores.copy()
    permuted[chosen] = scores[np.roll(chosen, 1)]
    return permuted


def _unit(rows: Array) -> Array:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _cosine(cell: Cell, rng: Generator) -> Array:
    """Gradients of the loss and of the queries at unit length."""
    lin = cell.problem.lin
    ridge = cell.ridge / float(np.mean(np.sum(lin.features**2, 1)))
    unit = replace(lin, features=_unit(lin.features), queries=_unit(lin.queries), residual=np.sign(lin.residual))
    return trak(unit, k=cell.k, ridge=ridge, rng=rng)


CORRUPTIONS: dict[str, Callable[[Cell, Generator], Array]] = {
    "sign flipped": lambda cell, rng: -cell.scores(rng),
    "points permuted": lambda cell, rng: _permuted(cell.scores(rng), 1.0, rng),
    "10 % of points permuted": lambda cell, rng: _permuted(cell.scores(rng), 0.1, rng),
    "queries permuted": lambda cell, rng: _permuted(cell.scores(rng).T, 1.0, rng).T,
    "10 % of queries permuted": lambda cell, rng: _permuted(cell.scores(rng).T, 0.1, rng).T,
    "features of another model": lambda cell, rng: cell.scores(
        rng, lin=replace(cell.problem.other, residual=cell.problem.lin.residual)
    ),
    "residuals of another model": lambda cell, rng: cell.scores(
        rng, lin=replace(cell.problem.lin, residual=cell.problem.other.residual)
    ),
    "another checkpoint": lambda cell, rng: cell.scores(rng, lin=cell.problem.checkpoint),
    "ranks for scores": lambda cell, rng: rankdata(cell.scores(rng), axis=0) - len(cell.problem.lin.residual) / 2,
    "cosine normalisation": _cosine,
    "k halved": lambda cell, rng: cell.scores(rng, k=0.5),
    "k doubled": lambda cell, rng: cell.scores(rng, k=2),
    "ridge / 3": lambda cell, rng: cell.scores(rng, ridge=1 / 3),
    "ridge × 3": lambda cell, rng: cell.scores(rng, ridge=3),
}


def main(
    problems: Annotated[int, typer.Option(help="Problems of each family and size.", min=1)] = 4,
    repeats: Annotated[int, typer.Option(help="Projections of each problem.", min=1)] = 25,
    seed: int = 2026,
    only: Annotated[str | None, typer.Option(help=ONLY_HELP)] = None,
    unseen: Annotated[bool, typer.Option("--unseen", help=UNSEEN_HELP)] = False,
) -> None:
    """Share of audits that alarm, with its binomial s.e.; every problem has its own calibration."""
    if only not in (None, *CORRUPTIONS):
        raise typer.BadParameter(f"{only!r} is none of {', '.join(CORRUPTIONS)}")
    families = UNSEEN if unseen else FAMILIES
    with threadpool_limits(1):
        if only is None:
            _all_healthy(families, problems, repeats, seed)
        typer.echo(f"Corrupted scores, n = {N}, q = {Q} ({problems} problems × {repeats} projections a cell)\n")
        typer.echo("| corruption | regime | " + " | ".join(f.name for f in families) + " | Kendall with healthy |")
        typer.echo("|---" * (len(families) + 3) + "|")
        for regime in ("μ = 0", "μ > 0"):
            names = [name for name in CORRUPTIONS if regime == "μ > 0" or not name.startswith("ridge")]
            _corrupted(families, [name for name in names if only in (None, name)], regime, problems, repeats, seed)


def _all_healthy(families: tuple[Family, ...], problems: int, repeats: int, seed: int) -> None:
    typer.echo(f"Healthy scores ({problems} problems × {repeats} projections a cell)\n")
    typer.echo("| family | regime | n | q | alarms |\n|---|---|---|---|---|")
    healthy: list[bool] = []
    for number, family in enumerate(families):
        for n, q in HEALTHY:
            for index, regime in enumerate(SHARE_OF_RANK):
                rng = np.random.default_rng([seed, n, q, number, index])
                found = list(_healthy(family, n, q, regime, problems, repeats, rng))
                healthy += found
                typer.echo(f"| {family.name} | {regime} | {n} | {q} | {rate(found)} |")
    typer.echo(f"\nall: {rate(healthy)} of {len(healthy)}\n")


def _healthy(
    family: Family, n: int, q: int, regime: str, problems: int, repeats: int, rng: Generator
) -> Iterator[bool]:
    for child in rng.spawn(problems):
        making, calibrating, scoring = child.spawn(3)
        cell = Cell.of(Problem.drawn(family, n, q, making), regime, calibrating)
        for projection in scoring.spawn(repeats):
            yield cell.alarms(cell.scores(projection))


def _corrupted(
    families: tuple[Family, ...], names: list[str], regime: str, problems: int, repeats: int, seed: int
) -> None:
    cells = {
        family.name: [
            Cell.of(Problem.drawn(family, N, Q, making), regime, calibrating)
            for making, calibrating in (child.spawn(2) for child in np.random.default_rng([seed, 1]).spawn(problems))
        ]
        for family in families
    }
    for name in names:
        corruption = CORRUPTIONS[name]
        rates, likeness = [], []
        for group in cells.values():
            rngs = np.random.default_rng([seed, 2]).spawn(problems * repeats)
            found = [group[i % problems].alarms(corruption(group[i % problems], rng)) for i, rng in enumerate(rngs)]
            rates.append(rate(found))
            same = [cell(np.random.default_rng([seed, 3])) for cell in (group[0].scores, partial(corruption, group[0]))]
            likeness.append(float(agreement(*same).kendall))
        typer.echo(f"| {name} | {regime} | {' | '.join(rates)} | {', '.join(f'{tau:.2f}' for tau in likeness)} |")


def rate(found: list[bool]) -> str:
    """Share with its binomial standard error."""
    share = float(np.mean(found))
    return f"{share:.3f} ± {np.sqrt(share * (1 - share) / len(found)):.3f}"


if __name__ == "__main__":
    typer.run(main)
