"""Alarms on scores whose order rounding has changed: half precision, and a ridge at the level of rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer
from numpy import ndarray as Array
from numpy.random import Generator
from threadpoolctl import threadpool_limits

from simulations.benchmarks.audit_alarms import FAMILIES, Cell, Family, N, Problem, Q, rate
from trak_theory import Linearization, audit, project, projection_matrix
from trak_theory.attribution import trak_kernel
from trak_theory.auditing.checking.recomputed import scores_of
from trak_theory.numerics.agreement import agreement
from trak_theory.numerics.spectrum import gram_eigenvalues
from trak_theory.projection.projected_features import ProjectedKernel

MATTERS = 0.9  # Kendall of rounded with exact scores, below which the order is another one
SHARES = {"k = .9 rank": 0.9, "k = .97 rank": 0.97}
SMALL_N = 150
WIDER = 1.2  # k over the rank
LEVELS = 0.01, 0.1, 0.25, 1.0, 10.0  # of μ, in units of ε s_max in single precision
INPUTS = "gradients", "projected features"
SINGLE = float(np.finfo(np.float32).eps)


def projected(lin: Linearization, k: int, rng: Generator) -> tuple[Array, Array]:
    """(n, k) and (q, k): the rows that `trak` with this generator projects."""
    kept = project(trak_kernel(lin), projection_matrix(lin.features.shape[1], k, rng=rng.spawn(1)[0]))
    return kept.features, kept.queries


def _half(array: Array) -> Array:
    """Through half precision at mean absolute entry one, as packages keep it; in single precision."""
    return (array / np.abs(array).mean()).astype(np.float16).astype(np.float32)


def _as_it_is(array: Array) -> Array:
    return array


HALF: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "rows": (_as_it_is, _as_it_is),
    "rows and inverse": (_as_it_is, _half),
    "rows, Gram matrix and inverse": (_half, _half),
}


def in_half(lin: Linearization, k: int, kept: str, rng: Generator) -> Array:
    """TRAK scores (n, q) at μ = 0 in single precision, with these numbers kept in half precision."""
    rows, asked = map(_half, projected(lin, k, rng))
    gram, inverse = HALF[kept]
    solved = inverse(np.linalg.inv(gram(rows.T @ rows)))
    return -lin.residual[:, None] * (rows @ solved @ asked.T).astype(float)


def in_single(lin: Linearization, rows: Array, asked: Array, ridge: float) -> Array:
    """TRAK scores (n, q) at μ of projected rows, all of it in single precision."""
    rows, asked = rows.astype(np.float32), asked.astype(np.float32)
    gram = rows.T @ rows
    gram[np.diag_indices(len(gram))] += np.float32(ridge)
    return -lin.residual[:, None] * (rows @ (np.linalg.inv(gram) @ asked.T)).astype(float)


@dataclass(frozen=True)
class Trial:
    """Whether the scores were called broken, and Kendall with the same projection in double precision."""

    alarm: bool
    kendall: float


def half_trial(cell: Cell, kept: str, seed: int) -> Trial:
    """Half-precision scores against the check of the audit; `seed` draws the projection."""
    exact = cell.scores(np.random.default_rng(seed))
    rounded = in_half(cell.problem.lin, cell.k, kept, np.random.default_rng(seed))
    return Trial(cell.alarms(rounded), float(agreement(exact, rounded).kendall))


def ridge_trial(lin: Linearization, level: float, given: str, rng: Generator) -> Trial:
    """Scores with k = 1.2 rank and μ = level · ε s_max in single precision, audited as a whole."""
    eigenvalues = gram_eigenvalues(lin.features)
    rank = int(np.sum(eigenvalues > 1e-10 * eigenvalues[-1]))
    k, ridge = int(WIDER * rank), level * SINGLE * float(eigenvalues[-1])
    rows, asked = projected(lin, k, rng)
    exact = scores_of((ProjectedKernel(rows, asked, ridge),), lin.residual)
    scores = in_single(lin, rows, asked, ridge)
    features, queries = (rows, asked) if given == INPUTS[1] else (lin.features, lin.queries)
    found = audit(
        features.astype(np.float32),
        queries.astype(np.float32),
        lin.residual,
        k=k,
        ridge=ridge,
        curvature=lin.curvature,
        recipe=1.0,
        scores=scores.astype(np.float32),
        projected=given == INPUTS[1],
    )
    broken = any(finding.startswith("these scores are not to be used") for finding in found.findings)
    return Trial(broken, float(agreement(exact, scores).kendall))


def main(
    problems: Annotated[int, typer.Option(help="Problems of each family and setting.", min=1)] = 4,
    repeats: Annotated[int, typer.Option(help="Projections of each problem in half precision.", min=1)] = 10,
    points: Annotated[int, typer.Option(help="Training points n in half precision.", min=50)] = N,
    queries: Annotated[int, typer.Option(help="Queries q in half precision.", min=1)] = Q,
    seed: int = 2026,
) -> None:
    """Share of audits that alarm, with its binomial s.e., beside Kendall with scores in double precision."""
    with threadpool_limits(1):
        typer.echo(f"Half precision, μ = 0, n = {points}, q = {queries}: alarms, and Kendall with double precision\n")
        _head("kept in half precision")
        every: list[Trial] = []
        for share in SHARES:
            groups = {family.name: _cells(family, share, (points, queries), problems, seed) for family in FAMILIES}
            every += _half_rows(share, groups, repeats, seed)
        _by_weight(every)
        typer.echo(f"\nμ = level × ε s_max of single precision, k = {WIDER} rank, n = {SMALL_N}, q = {Q}\n")
        _head("level")
        every = []
        for given in INPUTS:
            every += _ridge_rows(given, problems, seed)
        _by_weight(every)


def _head(first: str) -> None:
    typer.echo(f"| {first} | of | " + " | ".join(family.name for family in FAMILIES) + " |")
    typer.echo("|---" * (len(FAMILIES) + 2) + "|")


def _half_rows(share: str, groups: dict[str, list[Cell]], repeats: int, seed: int) -> list[Trial]:
    every: list[Trial] = []
    for kept in HALF:
        row = []
        for group in groups.values():
            found = [half_trial(cell, kept, seed + draw) for cell in group for draw in range(repeats)]
            every += found
            row.append(_summary(found))
        typer.echo(f"| {kept} | {share} | {' | '.join(row)} |")
    return every


def _cells(family: Family, share: str, size: tuple[int, int], problems: int, seed: int) -> list[Cell]:
    pairs = (child.spawn(2) for child in np.random.default_rng([seed, 4]).spawn(problems))
    return [
        Cell.at(Problem.drawn(family, *size, making), SHARES[share], False, calibrating)
        for making, calibrating in pairs
    ]


def _ridge_rows(given: str, problems: int, seed: int) -> list[Trial]:
    every: list[Trial] = []
    for level in LEVELS:
        row = []
        for family in FAMILIES:
            pairs = (child.spawn(2) for child in np.random.default_rng([seed, 6]).spawn(problems))
            lins = ((Problem.drawn(family, SMALL_N, Q, making).lin, drawing) for making, drawing in pairs)
            found = [
                ridge_trial(lin, level, given, rng) for lin, rng in lins if lin.features.shape[1] > WIDER * SMALL_N
            ]
            every += found
            row.append(_summary(found))
        typer.echo(f"| {level:g} | {given} | {' | '.join(row)} |")
    return every


def _by_weight(every: list[Trial]) -> None:
    """The two rates that count: where rounding changed the order, and where it did not."""
    for words, found in (
        (f"Kendall < {MATTERS:g}", [trial for trial in every if trial.kendall < MATTERS]),
        (f"Kendall ≥ {MATTERS:g}", [trial for trial in every if trial.kendall >= MATTERS]),
    ):
        typer.echo(f"\n{words}: {rate([trial.alarm for trial in found]) if found else '–'} of {len(found)}")


def _summary(found: list[Trial]) -> str:
    if not found:
        return "–"
    return f"{rate([trial.alarm for trial in found])} (τ {np.mean([trial.kendall for trial in found]):.2f})"
