"""How often the verdict of an audit is right: trusted scores measured against fresh projections and the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer
from numpy import ndarray as Array
from numpy.random import Generator
from threadpoolctl import threadpool_limits

from trak_theory import GLM, Linearization, audit, project, projection_matrix, trak
from trak_theory.attribution import influence, trak_kernel
from trak_theory.auditing.result import Audit
from trak_theory.auditing.verdict import NOTABLE, TRUSTED_KENDALL, TRUSTED_PEARSON, TRUSTED_SHARE
from trak_theory.numerics.agreement import agreement
from trak_theory.retraining.ridge_rule import ridge_rule

N, P, Q = 150, 200, 12
FRESH = 8  # independent projections that the top is measured with
DIMENSIONS = 0.25, 16.0  # of k, as factors on the degrees of freedom of the model
SCALES = 0.1, 10.0  # of the training ridge, as factors on the mean eigenvalue of the curvature-weighted Gram matrix
WRONG = 30.0  # factor of a wrong ridge, up or down
TOLERANCE = 0.05
INPUTS = ("gradients", "projected features")

Rows = Callable[[Generator], Array]


def _decaying(rng: Generator) -> Array:
    return rng.standard_normal((N + Q, P)) * np.arange(1, P + 1) ** -0.7


def _sparse(rng: Generator) -> Array:
    """Counts of words: one entry in ten, of heavy-tailed size."""
    return (rng.random((N + Q, P)) < 0.1) * rng.lognormal(size=(N + Q, P))


def _digits(rng: Generator) -> Array:
    from sklearn.datasets import load_digits

    data = load_digits().data[rng.permutation(1797)[: N + Q]] / 16 - 0.3
    return np.tanh(data @ rng.standard_normal((64, P)) / 2 + rng.standard_normal(P))


FAMILIES: dict[str, Rows] = {
    "Gaussian": lambda rng: rng.standard_normal((N + Q, P)),
    "decaying spectrum": _decaying,
    "sparse counts": _sparse,
    "digits, tanh features": _digits,
}


@dataclass(frozen=True, eq=False)
class Case:
    """A fitted model, and the setting (k, J, μ) and seed of the TRAK scores that somebody stored of it."""

    lin: Linearization
    k: int
    ensemble: int
    ridge: float
    seed: int

    @staticmethod
    def drawn(rows: Rows, rng: Generator) -> Case:
        lin = _fitted(rows(rng), rng)
        k = int(np.clip(lin.degrees_of_freedom * np.exp(rng.uniform(*np.log(DIMENSIONS))), 4, P))
        rule = ridge_rule(lin, _ridge(lin), k=k).projected or 0.0
        ridge = float(rule * rng.choice([0.0, 1.0, WRONG, 1 / WRONG], p=[0.25, 0.5, 0.125, 0.125]))
        return Case(lin, k, int(rng.choice([1, 4])), ridge, int(rng.integers(2**31)))

    def scores(self, *, ridge: float | None = None, seed: int | None = None) -> Array:
        """TRAK scores (n, q): the stored ones, or with another ridge or other projections."""
        rng = np.random.default_rng(self.seed if seed is None else seed)
        value = self.ridge if ridge is None else ridge
        return trak(self.lin, k=self.k, ensemble=self.ensemble, ridge=value, rng=rng)

    def projected(self) -> tuple[Array, Array]:
        """(J, n, k) and (J, q, k): what the projections of `scores` left."""
        kept = [
            project(trak_kernel(self.lin), projection_matrix(P, self.k, rng=child))
            for child in np.random.default_rng(self.seed).spawn(self.ensemble)
        ]
        return np.stack([each.features for each in kept]), np.stack([each.queries for each in kept])

    def audited(self, given: str) -> Audit:
        """The audit of the stored scores, from unprojected gradients or from projected features."""
        projected = given == "projected features"
        features, queries = self.projected() if projected else (self.lin.features, self.lin.queries)
        return audit(
            features,
            queries,
            self.lin.residual,
            k=None if projected else self.k,
            ensemble=self.ensemble,
            ridge=self.ridge,
            curvature=self.lin.curvature,
            recipe=_ridge(self.lin),
            scores=self.scores(),
            projected=projected,
            parameters=P if projected else None,
        )


def _ridge(lin: Linearization) -> float:
    return float(np.mean(lin.ridge))


def _fitted(rows: Array, rng: Generator) -> Linearization:
    """A logistic model of noisy labels, rows of mean square length one."""
    rows = rows / np.sqrt(np.mean(np.sum(rows**2, 1)))
    margin = rows @ rng.standard_normal(P)
    targets = (margin / margin.std() + rng.standard_normal(len(rows)) > 0)[:N]
    ridge = float(np.exp(rng.uniform(*np.log(SCALES)))) / 4
    return GLM(rows[:N], targets, loss="logistic", ridge=ridge).fit().linearize(rows[N:])


@dataclass(frozen=True, eq=False)
class Trial:
    """An audit beside what is measured without any law.

    kept       share of each query's top m that fresh projections keep
    kendall    of the stored scores with the influence function
    agreement  in the audit's own measure, of the stored scores
    followed   the same of the scores recomputed as advised; None where nothing is advised
    """

    found: Audit
    kept: float
    kendall: float
    agreement: float
    followed: float | None

    @staticmethod
    def of(case: Case, given: str) -> Trial:
        found, stored = case.audited(given), case.scores()
        reached = measure(case.lin, found.advice.measure)
        advised = not found.verdict.trust and found.advice.gain > NOTABLE
        return Trial(
            found,
            kept(case, stored, found.setting["top"]),
            float(agreement(influence(case.lin), stored).kendall),
            reached(stored),
            reached(case.scores(ridge=found.advice.ridge)) if advised else None,
        )

    @property
    def deserved(self) -> bool:
        """The measured shares and agreement pass the thresholds that the verdict predicts them to pass."""
        level = TRUSTED_KENDALL if self.found.advice.measure == "Kendall" else TRUSTED_PEARSON
        return self.kept >= TRUSTED_SHARE and self.agreement >= level


def kept(case: Case, stored: Array, top: int) -> float:
    """Share of each query's top m of the stored scores that is in the top m of fresh ones; mean."""
    own = _top(stored, top)
    fresh = (_top(case.scores(seed=case.seed + 1 + draw), top) for draw in range(FRESH))
    return float(np.mean([(own & other).sum(0) / top for other in fresh]))


def _top(scores: Array, top: int) -> Array:
    ranks = np.argsort(np.argsort(-scores, axis=0, kind="stable"), axis=0)
    return ranks < top


def measure(lin: Linearization, name: str) -> Callable[[Array], float]:
    """Kendall with the influence function, or pooled Pearson with the unit-curvature kernel at its ridge λ/mean d."""
    if name == "Kendall":
        return lambda scores: float(agreement(influence(lin), scores).kendall)
    target = influence(trak_kernel(lin, ridge=_ridge(lin) / float(lin.curvature.mean())))
    return lambda scores: float(np.corrcoef(_centred(target), _centred(scores))[0, 1])


def _centred(scores: Array) -> Array:
    return (scores - scores.mean(0)).ravel()


def trials(family: str, given: str, problems: int, seed: int) -> Iterator[Trial]:
    """Independent problems, one setting each; both inputs see the same ones."""
    for child in np.random.default_rng([seed, list(FAMILIES).index(family)]).spawn(problems):
        yield Trial.of(Case.drawn(FAMILIES[family], child), given)


def main(
    problems: Annotated[int, typer.Option(help="Problems of each family and kind of input.", min=1)] = 16,
    seed: int = 2026,
) -> None:
    """Of audits that say trust, the share that deserves it; of advice, the share that comes true within .05."""
    with threadpool_limits(1):
        typer.echo(
            f"n = {N}, p = {P}, q = {Q}; {problems} problems a row, one setting each; shares ± binomial s.e.\n\n"
            f"kept: {TRUSTED_SHARE:g} of the top, with {FRESH} fresh projections; agrees with the reference: Kendall ≥ "
            f"{TRUSTED_KENDALL:g} (gradients) or Pearson ≥ {TRUSTED_PEARSON:g} (projected features)\n"
        )
        heads = (
            "trust",
            "kept",
            "agrees",
            "both",
            f"Kendall ≥ {TRUSTED_KENDALL:g}",
            "distrusted though both hold",
            "advised",
            "comes true",
        )
        typer.echo(f"| input | features | {' | '.join(heads)} | measured − predicted |")
        typer.echo("|---" * (len(heads) + 3) + "|")
        for given in INPUTS:
            every: list[Trial] = []
            for family in FAMILIES:
                found = list(trials(family, given, problems, seed))
                every += found
                typer.echo(f"| {given} | {family} | {' | '.join(_cells(found))} |")
            typer.echo(f"| {given} | all | {' | '.join(_cells(every))} |")


def _cells(found: list[Trial]) -> list[str]:
    trusted = [trial for trial in found if trial.found.verdict.trust]
    others = [trial for trial in found if not trial.found.verdict.trust]
    gaps = [
        trial.followed - trial.found.advice.predicted
        for trial in others
        if trial.followed is not None and trial.found.advice.predicted is not None
    ]
    level = {"Kendall": TRUSTED_KENDALL, "Pearson": TRUSTED_PEARSON}
    return [
        _share([trial.found.verdict.trust for trial in found]),
        _share([trial.kept >= TRUSTED_SHARE for trial in trusted]),
        _share([trial.agreement >= level[trial.found.advice.measure] for trial in trusted]),
        _share([trial.deserved for trial in trusted]),
        _share([trial.kendall >= TRUSTED_KENDALL for trial in trusted]),
        _share([trial.deserved for trial in others]),
        f"{len(gaps)}",
        _share([abs(gap) <= TOLERANCE for gap in gaps]),
        f"{np.mean(gaps):+.3f} ± {np.std(gaps) / np.sqrt(len(gaps)):.3f}" if gaps else "–",
    ]


def _share(found: list[bool]) -> str:
    """.950 ± .022 of 100; nothing for none."""
    if not found:
        return "–"
    share = float(np.mean(found))
    return f"{share:.3f} ± {np.sqrt(share * (1 - share) / len(found)):.3f} of {len(found)}"
