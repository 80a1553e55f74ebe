"""Results of a run beside the rows that ship: which cells come out otherwise, and how far each claim has moved."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, groupby

from simulations.engine.store import Store, read_cell
from simulations.engine.study import Cell, Size, all_studies
from simulations.findings.finding import Judged
from simulations.findings.measures import NORMAL
from simulations.ledger.agreement import differing
from simulations.ledger.judge import Ledger, judge_all, judge_confirmed, markdown

SHOWN = 4  # columns that are named for a study


@dataclass(frozen=True)
class Cells:
    """Cells of a study that both hold: how many, how many of them differ by more than rounding, and in what."""

    study: str
    both: int
    otherwise: int
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Move:
    """A claim as it was measured in both."""

    shipped: Judged
    here: Judged

    @property
    def z(self) -> float:
        """Difference in the unit in which its 95 % interval ends at ±1.96, were the draws independent."""
        difference = self.here.found.value - self.shipped.found.value
        half = math.hypot(_half(self.here), _half(self.shipped))
        if half == 0:
            return 0.0 if difference == 0 else math.copysign(math.inf, difference)
        return NORMAL * difference / half


def _half(judged: Judged) -> float:
    return (judged.found.high - judged.found.low) / 2


@dataclass(frozen=True)
class Comparison:
    """size and seed of the results here; `missing`: studies that one of both does not hold whole."""

    size: Size
    seed: int
    cells: list[Cells]
    moves: list[Move]
    missing: list[str]


def compared(
    here: Store, shipped: Store, *, size: Size = "quick", seed: int = 0, keep_stale: bool = False
) -> Comparison:
    """Cells one by one under the seed of the shipped rows, claims under any seed.

    Raises StaleError for rows of other code.
    """
    judged = judge_all(here, size=size, seed=seed, keep_stale=keep_stale)
    before = judge_confirmed(shipped) if size == "full" else judge_all(shipped, keep_stale=True)
    missing = sorted({*judged.missing, *before.missing})
    whole = [study for study in all_studies() if study.name not in missing]
    cells = list(_cells(here, shipped, [cell for study in whole for cell in study.cells(size, seed)]))
    return Comparison(size, seed, cells, _moves(before, judged), missing)


def _cells(here: Store, shipped: Store, cells: list[Cell]) -> Iterator[Cells]:
    both = [cell for cell in cells if shipped.path(cell).exists()]
    for study, group in groupby(both, lambda cell: cell.study):
        columns = [_columns(here, shipped, cell) for cell in group]
        found = list(filter(None, columns))
        yield Cells(study, len(columns), len(found), tuple(dict.fromkeys(chain.from_iterable(found))))


def _columns(here: Store, shipped: Store, cell: Cell) -> list[str]:
    there, today = (read_cell(store.path(cell))[0].to_pylist() for store in (shipped, here))
    return differing(there, today)


def _moves(before: Ledger, judged: Ledger) -> list[Move]:
    known = {(entry.finding.study, entry.statement): entry for entry in before.judged}
    pairs = [(known.get((entry.finding.study, entry.statement)), entry) for entry in judged.judged]
    return [Move(shipped, here) for shipped, here in pairs if shipped is not None]


def compared_table(found: Comparison) -> str:
    """Markdown: counts, then the studies whose cells differ, then claims beyond ±1.96 or with another verdict."""
    parts = [_count_of_cells(found), *_studies(found), _count_of_claims(found), *_claims(found)]
    if found.missing:
        parts.append(f"Not compared, for want of the whole {found.size} size: {', '.join(found.missing)}.")
    return "\n\n".join(parts)


def _count_of_cells(found: Comparison) -> str:
    both, otherwise = sum(each.both for each in found.cells), sum(each.otherwise for each in found.cells)
    if not found.cells:
        return f"No shipped cell has the seed {found.seed}: these are other draws, and claims alone compare."
    return f"{both - otherwise} of {both} cells are the shipped ones but for rounding."


def _studies(found: Comparison) -> list[str]:
    rows = [
        (each.study, str(each.both), str(each.otherwise), _named(each.columns))
        for each in found.cells
        if each.otherwise
    ]
    return ["\n".join(markdown(("study", "cells", "otherwise", "in"), rows))] if rows else []


def _named(columns: tuple[str, ...]) -> str:
    more = len(columns) - SHOWN
    return ", ".join(columns[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _count_of_claims(found: Comparison) -> str:
    sizes = [abs(move.z) for move in found.moves]
    return (
        f"{len(sizes)} claims measured in both: |z| is {max(sizes, default=0):.2g} at most, beyond {NORMAL} for "
        f"{sum(size > NORMAL for size in sizes)} (the same draws in {len(found.cells)} studies; of independent ones "
        f"5 % at most lie beyond); {sum(map(_other_verdict, found.moves))} verdicts differ."
    )


def _other_verdict(move: Move) -> bool:
    return move.here.verdict != move.shipped.verdict


def _claims(found: Comparison) -> list[str]:
    headings = ("study", "claim", "shipped", "here", "z", "shipped", "here")
    rows = [
        (
            move.here.finding.study,
            move.here.statement,
            f"{move.shipped.found.value:.4g}",
            f"{move.here.found.value:.4g}",
            f"{move.z:+.2g}",
            move.shipped.verdict,
            move.here.verdict,
        )
        for move in found.moves
        if abs(move.z) > NORMAL or _other_verdict(move)
    ]
    return ["\n".join(markdown(headings, rows))] if rows else []
