"""trak-theory claims: the ledger of claims, or the derivations behind them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from trak_theory.cli.speaking import NOT_TRUSTED, say, say_json

if TYPE_CHECKING:
    from trak_theory.claims.claim import Entry

SEED = 0
HEADINGS = ("claim", "kind", "source", "predicted", "measured", "s.e. or slack", "verdict")


def claims(
    as_json: Annotated[bool, typer.Option("--json", help="The ledger as JSON, with statements and domains.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="All derivations as one LaTeX document instead.")] = False,
) -> None:
    """Check every claim on formulas and print the ledger. The exit status is 3 when a formula's claim does not hold.

    s.e. or slack: standard error of the measured number (expansion, limit), relative difference (identity), or
    1 − largest lhs/rhs (bound).
    """
    if as_json and latex:
        raise typer.BadParameter("choose one of --json and --latex")
    if latex:
        from trak_theory.symbolic import derivations
        from trak_theory.symbolic.document import latex_document

        typer.echo(latex_document(derivations()), nl=False)
        return
    from trak_theory.claims import ledger

    entries = ledger(seed=SEED)
    if as_json:
        say_json([asdict(entry) for entry in entries])
    else:
        say(ledger_table(entries))
    raise typer.Exit(0 if all(entry.holds for entry in entries) else NOT_TRUSTED)


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
