"""The audit's advice followed with the released packages: predicted and measured agreement, before and after."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import typer
from numpy import ndarray as Array

from simulations.benchmarks.rivals.environments import Environments
from simulations.benchmarks.rivals.exchange import Failure
from simulations.benchmarks.rivals.released import Bergson, Dattri, Package, Subject, Traker
from simulations.benchmarks.rivals.tables import Row, header, line
from trak_theory import agreement, influence
from trak_theory.attribution import trak_kernel
from trak_theory.auditing.result import Audit
from trak_theory.numerics.estimate import mean
from trak_theory.retraining.restored import restored_influence
from trak_theory.retraining.ridge_rule import ridge_rule

PROJECTIONS = 2
COLUMNS = [
    "package",
    "setting",
    "value",
    "measure",
    "predicted",
    "measured",
    "difference",
    "s.e.",
    "trusted",
    "networks",
    "reason",
]


@dataclass(frozen=True)
class Compared:
    """One step of a user: the agreement that an audit predicted, what the package's scores show, and the verdict."""

    step: str
    value: float
    measure: str
    predicted: float | None
    measured: float
    trusted: bool | None


def measure(environments: Environments, *, seed: int, networks: int) -> list[Row]:
    """Print what the advice promised and what it gave; the rows."""
    typer.echo(
        f"Every step for {PROJECTIONS} projections of each network; predicted by the audit of the step before. "
        "Pearson: with the unprojected unit-curvature kernel at the ridge of training, predicted from the package's "
        "store alone; Kendall: with restored influence, predicted from the gradients. s.e. of the difference over "
        "networks\n"
    )
    typer.echo(header(COLUMNS))
    rows: list[Row] = []
    for package in (
        Traker(environments, 2048, half=True),
        Traker(environments, 512, half=True),
        Traker(environments, 512, half=False),
        Dattri(environments, 512),
        Bergson(environments, 128),
    ):
        for row in _followed(package, seed, networks):
            rows.append({"package": package.name, **row})
            typer.echo(line(rows[-1], COLUMNS))
    return rows


def _followed(package: Package, seed: int, networks: int) -> Iterator[Row]:
    found: list[list[Compared]] = []
    for number in range(networks):
        with TemporaryDirectory() as name:
            subject = package.subject(np.random.default_rng([seed, number]), Path(name))
            steps = subject if isinstance(subject, Failure) else followed(package, subject)
        if isinstance(steps, Failure):
            yield {"setting": package.setting, "reason": steps.reason}
            return
        found.append(steps)
    for step in dict.fromkeys(each.step for steps in found for each in steps):
        yield {"setting": f"{package.setting}, {step}", **_summary([_of(step, steps) for steps in found])}


def _of(step: str, steps: Sequence[Compared]) -> list[Compared]:
    return [each for each in steps if each.step == step]


def _summary(groups: list[list[Compared]]) -> Row:
    """Means over networks of means over projections; without a prediction, no difference."""
    first = groups[0][0]

    def over(read: Callable[[Compared], float]) -> Any:
        return mean([np.mean([read(each) for each in group]) for group in groups])

    row: Row = {
        "value": float(over(lambda each: each.value)),
        "measure": first.measure,
        "measured": float(over(lambda each: each.measured)),
        "networks": len(groups),
    }
    verdicts = [each.trusted for group in groups for each in group if each.trusted is not None]
    if verdicts:
        row["trusted"] = f"{sum(verdicts)} of {len(verdicts)}"
    if any(each.predicted is None for group in groups for each in group):
        return row
    gap = over(lambda each: each.measured - (each.predicted or 0.0))
    predicted = float(over(lambda each: each.predicted or 0.0))
    return {**row, "predicted": predicted, "difference": float(gap), "s.e.": gap.se}


def followed(package: Package, subject: Subject) -> list[Compared] | Failure:
    """The package's default, the recommended ridge, the mean of all projections at it, and twice the k at its best."""
    reach, done, after = Reach(subject), [], []
    last: Audit | None = None
    for seed in range(PROJECTIONS):
        before = package.scored(subject, seed, package.default)
        if isinstance(before, Failure):
            return before
        advice = before.audit.advice
        assert advice.value is not None
        taken = package.scored(subject, seed, advice.value)
        if isinstance(taken, Failure):
            return taken
        done.append(reach.compared("default", package.default, before.audit, advice.present, before.scores))
        done.append(reach.compared("advice", advice.value, taken.audit, advice.predicted, taken.scores))
        after.append(taken)
        last = before.audit
    predicted = [package.averaged(subject, seed, after[seed].value, PROJECTIONS) for seed in range(PROJECTIONS)]
    mean_scores = np.mean([each.scores / each.scores.std() for each in after], axis=0)
    expected = float(np.mean([found.advice.present for found in predicted]))
    done.append(reach.compared("advice, J = 2", after[0].value, predicted[0], expected, mean_scores))
    assert last is not None
    return [*done, *_wider(package, subject, reach, last)]


def _wider(package: Package, subject: Subject, reach: Reach, found: Audit) -> Iterator[Compared]:
    """Twice the k at the best ridge of the audit's map, where the map has other k."""
    rows = [row for row in found.map if row["k"] == 2 * found.setting["k"]]
    if not rows:
        return
    best = max(rows, key=lambda row: row["kendall"])
    wider = package.scored(subject, 0, best["value"], k=best["k"])
    if not isinstance(wider, Failure):
        yield reach.compared("twice the k", best["value"], wider.audit, best["kendall"], wider.scores)


@dataclass(frozen=True, eq=False)
class Reach:
    """Agreement of scores with the reference that an audit names, from gradients that a store does not hold."""

    subject: Subject

    def compared(self, step: str, value: float, found: Audit, predicted: float | None, scores: Array) -> Compared:
        name = found.advice.measure
        return Compared(step, value, name, predicted, self._measured(name, scores), found.verdict.trust)

    def _measured(self, name: str, scores: Array) -> float:
        lin, recipe, fraction = self.subject.lin, self.subject.recipe, self.subject.fraction
        if name == "Kendall":
            return float(agreement(restored_influence(lin, recipe, fraction=fraction), scores).kendall)
        reference = influence(trak_kernel(lin, ridge=ridge_rule(lin, recipe, fraction=fraction).unit_curvature))
        first, second = (rows - rows.mean(0) for rows in (reference, scores))
        return float(np.sum(first * second) / (np.linalg.norm(first) * np.linalg.norm(second)))
