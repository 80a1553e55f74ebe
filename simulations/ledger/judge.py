"""The findings of all studies judged on stored results, as Markdown, and the digest of what the page is made from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from simulations.engine.reach import Reach
from simulations.engine.reading import reading
from simulations.engine.store import Store
from simulations.engine.study import find_study
from simulations.engine.syntax import Symbol
from simulations.findings import all_findings
from simulations.findings.finding import Finding, Judged
from simulations.findings.measures import Measured

HEADINGS = ("claim", "source", "predicted", "measured", "95 % interval", "over", "verdict")
# What the page says rests on these, on what they reach, and on the rows.
ROOTS = (Symbol("simulations.ledger.judge", "findings_table"), Symbol("trak_theory.claims", "ledger"))


@dataclass(frozen=True)
class Ledger:
    """Every finding judged, studies whose quick size is not stored whole, and studies → what is stale of them."""

    judged: list[Judged]
    missing: list[str]
    stale: dict[str, str]


def judge_all(store: Store, *, seed: int = 0, keep_stale: bool = False) -> Ledger:
    """Every finding on the quick size of its study under one seed. Raises StaleError for rows of other code."""
    judged: list[Judged] = []
    missing = []
    with reading([seed], keep_stale=keep_stale) as rules:
        for name, findings in groupby(all_findings(), lambda finding: finding.study):
            study = find_study(name)
            if not all(store.path(cell).exists() for cell in study.cells("quick", seed)):
                missing.append(name)
                continue
            rows = store.load(study, "quick")
            judged += [each for finding in findings for each in finding.judge(rows)]
    return Ledger(judged, missing, dict(rules.stale))


def findings_table(ledger: Ledger) -> str:
    """Markdown: the count, what does not hold, then one section a study with its command."""
    return "\n".join([_count(ledger), "", *_unsettled(ledger), *_sections(ledger)]).strip()


def _unsettled(ledger: Ledger) -> list[str]:
    """Failures and what is unclear, with the reason where one is known; what was not measured, and what is stale."""
    lines = ["### What does not hold, or is not settled", ""]
    lines += judged_lines([entry for entry in ledger.judged if entry.verdict != "holds"], with_study=True)
    notes = dict.fromkeys(
        f"*{entry.finding.study}, {entry.statement}*: {entry.finding.discussion}"
        for entry in ledger.judged
        if entry.verdict != "holds" and entry.finding.discussion
    )
    lines += [line for note in notes for line in ("", note)]
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
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    return lines + [_line(entry, entry.finding.study if with_study else "") for entry in entries]


def _line(entry: Judged, study: str) -> str:
    found, statement = entry.found, entry.statement.replace("|", "\\|")
    cells = [study] if study else []
    cells += [statement, entry.finding.source, _predicted(entry.finding), f"{found.value:.4g}"]
    return "| " + " | ".join([*cells, _interval(found), found.over, entry.verdict]) + " |"


def _predicted(finding: Finding) -> str:
    tolerance = f" ± {finding.tolerance:g}" if finding.relation == "=" else ""
    return f"{finding.relation} {finding.predicted:g}{tolerance}"


def _interval(found: Measured) -> str:
    if found.low == found.high:
        return "–"
    return f"{found.low:.3g} to {found.high:.3g}" if np.isfinite(found.low) else "none from one"


def _count(ledger: Ledger) -> str:
    verdicts = [entry.verdict for entry in ledger.judged]
    return (
        f"{verdicts.count('holds')} of {len(verdicts)} claims hold, {verdicts.count('FAILS')} fail, "
        f"{verdicts.count('unclear')} are unclear, {verdicts.count('mixed')} hold in some settings and fail in others."
    )


def made_from() -> str:
    """Digest of the source of findings, claims on formulas, and all that they reach in the library."""
    reached = Reach()
    for symbol in ROOTS:
        reached.follow(symbol)
    return hashlib.sha256("\n".join(sorted(reached.texts())).encode()).hexdigest()[:16]
