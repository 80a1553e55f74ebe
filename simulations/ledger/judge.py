"""The findings of all studies judged on stored results, as Markdown, and the digest of what the page is made from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np

from simulations.engine.reach import Reach
from simulations.engine.reading import reading
from simulations.engine.source import code_of
from simulations.engine.store import Store, read_cell
from simulations.engine.study import Cell, Size, find_study
from simulations.engine.syntax import Symbol
from simulations.findings import all_findings
from simulations.findings.finding import Finding, Judged
from simulations.findings.measures import Measured
from simulations.findings.registry import REGISTRY, confirmation

HEADINGS = ("claim", "source", "predicted", "measured", "95 % interval", "over", "verdict")
# What the page says rests on these, on what they reach, and on the rows.
ROOTS = (
    Symbol("simulations.ledger.judge", "findings_table"),
    Symbol("simulations.ledger.confirmed", "confirmed_table"),
    Symbol("trak_theory.claims", "ledger"),
)


@dataclass(frozen=True)
class Ledger:
    """Every finding judged, studies whose size is not stored whole, and studies → what is stale of them."""

    judged: list[Judged]
    missing: list[str]
    stale: dict[str, str]


def judge_all(store: Store, *, size: Size = "quick", seed: int = 0, keep_stale: bool = False) -> Ledger:
    """Every finding on one size of its study under one seed. Raises StaleError for rows of other code."""
    return _judge(store, size, lambda study: seed, keep_stale)


def judge_confirmed(store: Store) -> Ledger:
    """Every finding on the full size of its study under the seed of its confirmation; rows of other code count.

    `stale` goes by source alone: a full size takes hours, and is not run again for another version of a package.
    """
    ledger = _judge(store, "full", confirmation, keep_stale=True)
    return replace(ledger, stale=dict.fromkeys(of_other_code(store), "other source"))


def _judge(store: Store, size: Size, seed_of: Callable[[str], int], keep_stale: bool) -> Ledger:
    found = Ledger([], [], {})
    for name, findings in groupby(all_findings(), lambda finding: finding.study):
        study, seed = find_study(name), seed_of(name)
        if not all(store.path(cell).exists() for cell in study.cells(size, seed)):
            found.missing.append(name)
            continue
        with reading([seed], keep_stale=keep_stale) as rules:
            rows = store.load(study, size)
        found.stale.update(rules.stale)
        found.judged.extend(each for finding in findings for each in finding.judge(rows))
    return found


def stored_cells(store: Store) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Every finished cell of a store, with its label."""
    for path in sorted(store.out.glob("*/*.parquet")):
        label = dict(read_cell(path)[1])
        yield Cell(path.parent.name, label["params"], label["seed"]), label


def of_other_code(store: Store) -> list[str]:
    """Studies with a cell that other source computed, whatever the versions of packages."""
    return sorted(
        {
            cell.study
            for cell, label in stored_cells(store)
            if label["code"]["source"] != code_of(find_study(cell.study).run).source
        }
    )


def findings_table(ledger: Ledger) -> str:
    """Markdown: the count, what does not hold, then one section a study with its command."""
    return "\n".join([count(ledger), "", *_unsettled(ledger), *_sections(ledger)]).strip()


def unsettled(ledger: Ledger) -> list[Judged]:
    """What fails, is unclear, or is mixed."""
    return [entry for entry in ledger.judged if entry.verdict != "holds"]


def discussions(ledger: Ledger, reason: Callable[[Finding], str]) -> list[str]:
    """Why claims do not hold, where a reason is known: one paragraph each."""
    return [
        f"*{entry.finding.study}, {entry.statement}*: {reason(entry.finding)}"
        for entry in unsettled(ledger)
        if reason(entry.finding)
    ]


def _unsettled(ledger: Ledger) -> list[str]:
    """Failures and what is unclear, with the reason where one is known; what was not measured, and what is stale."""
    lines = ["### What does not hold, or is not settled", ""]
    lines += judged_lines(unsettled(ledger), with_study=True)
    lines += [line for note in discussions(ledger, attrgetter("discussion")) for line in ("", note)]
    if ledger.missing:
        lines += ["", f"Not measured, for want of results of the whole quick size: {', '.join(ledger.missing)}."]
    lines += [line for name, what in ledger.stale.items() for line in ("", f"Stale: {name}: {what}.")]
    return [*lines, ""]


def _sections(ledger: Ledger) -> list[str]:
    parts = []
    for name, group in groupby(ledger.judged, lambda entry: entry.finding.study):
        about = f"{find_study(name).summary} `python -m simulations run {name}`"
        parts += [f"### {name}", "", about, "", *judged_lines(list(group)), ""]
    return parts


def judged_lines(entries: list[Judged], with_study: bool = False) -> list[str]:
    """A Markdown table, one line a claim."""
    headings = (("study",) if with_study else ()) + HEADINGS
    return markdown(headings, [_cells(entry, entry.finding.study if with_study else "") for entry in entries])


def markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table; a bar inside of a cell is escaped."""
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


def _cells(entry: Judged, study: str) -> list[str]:
    found = entry.found
    cells = [study] if study else []
    cells += [entry.statement, entry.finding.source, predicted(entry.finding), f"{found.value:.4g}"]
    return [*cells, interval(found), found.over, entry.verdict]


def predicted(finding: Finding) -> str:
    """Relation and threshold, with the half-width of a band."""
    tolerance = f" ± {finding.tolerance:g}" if finding.relation == "=" else ""
    return f"{finding.relation} {finding.predicted:g}{tolerance}"


def interval(found: Measured) -> str:
    """Its ends; a dash for a statement on all cases that were tried."""
    if found.low == found.high:
        return "–"
    return f"{found.low:.3g} to {found.high:.3g}" if np.isfinite(found.low) else "none from one"


def count(ledger: Ledger) -> str:
    """How many claims hold, fail, are unclear, and are mixed."""
    verdicts = [entry.verdict for entry in ledger.judged]
    return (
        f"{verdicts.count('holds')} of {len(verdicts)} claims hold, {verdicts.count('FAILS')} fail, "
        f"{verdicts.count('unclear')} are unclear; mixed over settings: {verdicts.count('mixed')}."
    )


def made_from() -> str:
    """Digest of the registry and of the source of findings, claims on formulas, and all that they reach."""
    reached = Reach()
    for symbol in ROOTS:
        reached.follow(symbol)
    texts = [*sorted(reached.texts()), REGISTRY.read_text(encoding="utf-8")]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
