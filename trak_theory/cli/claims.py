"""trak-theory claims: the ledger of claims, or the derivations behind them."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from trak_theory.claims.claim import Entry

SEED = 0
MARKS = ("<!-- ledger -->", "<!-- /ledger -->")
STUDY_MARKS = ("<!-- studies -->", "<!-- /studies -->")
HEADINGS = ("claim", "kind", "source", "predicted", "measured", "s.e. or slack", "verdict")


def claims(
    as_json: Annotated[bool, typer.Option("--json", help="The ledger as JSON, with statements and domains.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="All derivations as one LaTeX document instead.")] = False,
    update: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.md", help="Also write the tables into this file, between its marks.", dir_okay=False
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Judge the studies stored here as well, at their quick size."),
    ] = None,
) -> None:
    """Check every claim and print the ledger. The exit status is 1 when a formula's claim does not hold.

    s.e. or slack: standard error of the measured number (expansion, limit), relative difference (identity), or
    1 − largest lhs/rhs (bound). Claims of studies say what was measured; those that fail stay in the ledger and are
    discussed there.
    """
    if as_json and (latex or results is not None):
        raise typer.BadParameter("choose one of --json, --latex and --results")
    if latex:
        from trak_theory.symbolic import derivations
        from trak_theory.symbolic.document import latex_document

        typer.echo(latex_document(derivations()), nl=False)
        return
    from trak_theory.claims import ledger

    entries = ledger(seed=SEED)
    found = None if results is None else _studies(results)
    if update is not None:
        write_between_marks(update, ledger_table(entries), MARKS)
    if update is not None and found is not None:
        write_between_marks(update, found, STUDY_MARKS)
    typer.echo(ledger_json(entries) if as_json else ledger_table(entries))
    if found is not None:
        typer.echo(f"\n{found}")
    raise typer.Exit(int(not all(entry.holds for entry in entries)))


def _studies(results: Path) -> str:
    from simulations.engine.store import CorruptError, NoResultsError
    from simulations.findings.ledger import findings_table, judge_all

    try:
        return findings_table(judge_all(results))
    except (NoResultsError, CorruptError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


def write_between_marks(path: Path, table: str, marks: tuple[str, str]) -> None:
    """Replace what stands between two lines of marks, such as <!-- ledger --> and <!-- /ledger -->."""
    begin, end = marks
    text = path.read_text() if path.exists() else ""
    if text.count(begin) != 1 or text.count(end) != 1:
        raise typer.BadParameter(f"{path} needs one line {begin} and one line {end}; the table goes between them")
    head, rest = text.split(begin)
    path.write_text(f"{head}{begin}\n\n{table}\n\n{end}{rest.split(end)[1]}")


def ledger_json(entries: list[Entry]) -> str:
    """Strict JSON: a number that is not finite is null."""
    rows = [
        {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
        for row in map(asdict, entries)
    ]
    return json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False)


def ledger_table(entries: list[Entry]) -> str:
    """A Markdown table, aligned for reading in a terminal."""
    rows = [HEADINGS, *map(_cells, entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _cells(entry: Entry) -> tuple[str, ...]:
    numbers = (f"{value:.4g}" for value in (entry.predicted, entry.measured))
    verdict = "holds" if entry.holds else "FAILS"
    return (entry.name, entry.kind, entry.source, *numbers, f"{entry.uncertainty:.1e}", verdict)
