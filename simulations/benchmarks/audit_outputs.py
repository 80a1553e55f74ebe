"""How often what `--outputs` adds to a verdict is right: LDS, its interval, and trust withdrawn, at few subsets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer
from numpy import ndarray as Array
from numpy.random import Generator
from scipy.stats import rankdata
from threadpoolctl import threadpool_limits

from simulations.benchmarks.audit_alarms import rate
from trak_theory.auditing.result import Audit
from trak_theory.auditing.retrained import OPEN, WORTHLESS, Retrained, against_retraining
from trak_theory.auditing.verdict import Advice, Verdict

N, Q = 100, 20
POPULATION, MANY = 300, 3000  # queries and subsets that the true LDS is measured with
NOISE = 0.5  # of a training, in standard deviations of the outputs over subsets
SUBSETS = 20, 50, 100
SCORES = {"good": 0.7, "mediocre": 0.3, "at the threshold": 0.12, "random": 0.0, "opposed": -0.3}
TRUSTED = Verdict(True, "Trust the order: of the law.")
ADVICE = Advice("ridge", None, None, "Kendall", None, None)


@dataclass(frozen=True, eq=False)
class World:
    """Effects of points on a population of queries (n, Q), and scores of that correlation with them.

    Outputs are sums of effects and of a product of points, which no scores can follow, and the noise of a training.
    """

    effects: Array
    scores: Array

    @staticmethod
    def drawn(correlation: float, rng: Generator) -> World:
        """Queries differ in how well they are scored: correlations ± .1."""
        effects, other = rng.standard_normal((2, N, POPULATION))
        own = np.clip(correlation + 0.1 * rng.standard_normal(POPULATION), -1, 1)
        return World(effects, own * effects + np.sqrt(1 - own**2) * other)

    def outputs(self, subsets: Array, rng: Generator) -> Array:
        """(B, Q) of subsets (B, N/2)."""
        sums = self.effects[subsets].sum(1)
        sums = sums + 0.2 * np.sin(sums)
        return np.asarray(sums + NOISE * sums.std(0) * rng.standard_normal(sums.shape))

    def true_lds(self, rng: Generator) -> float:
        """Mean Spearman correlation over the whole population, at 3,000 subsets: its own error is below .003."""
        subsets = subsets_of(MANY, rng)
        ranks = [rankdata(values, axis=0) for values in (self.scores[subsets].sum(1), self.outputs(subsets, rng))]
        first, second = ((each - each.mean(0)) / each.std(0) for each in ranks)
        return float(np.mean(first * second))


def subsets_of(count: int, rng: Generator) -> Array:
    return np.argsort(rng.random((count, N)), axis=1)[:, : N // 2]


@dataclass(frozen=True)
class Printed:
    """A verdict's numbers: LDS, its s.e., its interval; whether trust was withdrawn, or it says that 0 is possible."""

    value: float
    se: float
    low: float
    high: float
    withdrawn: bool
    open: bool

    @staticmethod
    def of(world: World, count: int, rng: Generator) -> Printed:
        """20 queries of the population and as many subsets; scores that the law alone would trust."""
        asked = rng.choice(POPULATION, Q, replace=False)
        subsets = subsets_of(count, rng)
        setting = {"projected_input": False}
        found = Audit(verdict=TRUSTED, advice=ADVICE, setting=setting, scores=world.scores[:, asked])
        found = against_retraining(found, Retrained(list(subsets), world.outputs(subsets, rng)[:, asked]))
        row = found.retrained or {}
        return Printed(
            row["LDS"],
            row["s.e."],
            row["95 % from"],
            row["to"],
            not found.verdict.trust,
            OPEN in found.verdict.sentence,
        )


def main(
    repeats: Annotated[int, typer.Option(help="Retraining experiments a cell.", min=1)] = 400,
    worlds: Annotated[int, typer.Option(help="Populations of queries a cell.", min=1)] = 4,
    seed: int = 2026,
) -> None:
    """Trust is to be withdrawn from scores whose LDS is below .1, and from no others."""
    with threadpool_limits(1):
        typer.echo(f"n = {N}, q = {Q}; {repeats} experiments a cell in {worlds} populations; shares ± binomial s.e.\n")
        heads = (
            "scores",
            "subsets",
            "true LDS",
            "trust withdrawn",
            "rightly",
            "said to reach 0",
            "interval holds it",
            "within 2 s.e.",
        )
        typer.echo(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
        for index, (name, correlation) in enumerate(SCORES.items()):
            making, measuring = np.random.default_rng([seed, index]).spawn(2)
            drawn = [World.drawn(correlation, child) for child in making.spawn(worlds)]
            truths = [world.true_lds(child) for world, child in zip(drawn, measuring.spawn(worlds), strict=True)]
            for count in SUBSETS:
                rngs = np.random.default_rng([seed, index, count]).spawn(repeats)
                found = [Printed.of(drawn[i % worlds], count, rng) for i, rng in enumerate(rngs)]
                cells = " | ".join(cells_of(found, [truths[i % worlds] for i in range(repeats)]))
                typer.echo(f"| {name} | {count} | {_range(truths)} | {cells} |")


def cells_of(found: list[Printed], truths: list[float]) -> list[str]:
    pairs = list(zip(found, truths, strict=True))
    right = [truth < WORTHLESS for one, truth in pairs if one.withdrawn]
    return [
        rate([one.withdrawn for one in found]),
        f"{sum(right)} of {len(right)}",
        rate([one.open for one in found]),
        rate([one.low <= truth <= one.high for one, truth in pairs]),
        rate([abs(one.value - truth) <= 2 * one.se for one, truth in pairs]),
    ]


def _range(truths: list[float]) -> str:
    words = {re.sub(r"^(-?)0\.", r"\1.", f"{truth:.2f}").replace("-", "−") for truth in (min(truths), max(truths))}
    return " to ".join(sorted(words))


if __name__ == "__main__":
    typer.run(main)
