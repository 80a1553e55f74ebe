"""The findings of all studies as one table, and the fingerprint of what it was made from."""

from __future__ import annotations

import hashlib
import inspect
from importlib import import_module
from itertools import groupby
from pathlib import Path

import numpy as np

from simulations.engine.reading import NoResultsError
from simulations.engine.store import Store
from simulations.engine.study import canonical, find_study, module_of
from simulations.findings import MODULES, all_findings
from simulations.findings.finding import Judged

HEADINGS = ("claim", "source", "predicted", "measured", "s.e.", "verdict")


def judge_all(results: Path) -> list[Judged]:
    """Every finding judged on the quick size of its study; NoResultsError names the studies that are not complete."""
    store, judged, missing = Store(results), [], []
    for name, findings in groupby(all_findings(), lambda finding: finding.study):
        study = find_study(name)
        if not all(store.is_done(cell) for cell in study.cells("quick", 0)):
            missing.append(name)
            continue
        rows = store.load(study, "quick")
        judged += [finding.judge(rows[rows["seed"] == 0]) for finding in findings]
    if missing:
        raise NoResultsError(
            f"the quick sizes of {', '.join(missing)} are not complete in {results}: "
            f"python -m simulations run all --out {results}"
        )
    return judged


def findings_table(judged: list[Judged]) -> str:
    """Markdown: one section a study with its command and figure, discussions below."""
    parts = []
    for name, group in groupby(judged, lambda entry: entry.finding.study):
        entries = list(group)
        lines = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS), *map(_line, entries)]
        summary = find_study(name).summary
        head = f"### {name}\n\n{summary} `python -m simulations run {name}`, figure: `python -m paper_figures {name}`\n"
        notes = [f"*{e.finding.statement}*: {e.finding.discussion}\n" for e in entries if e.finding.discussion]
        parts.append("\n".join([head, *lines, "", *notes]))
    return "\n".join([_count(judged), "", *parts, f"<!-- made from {fingerprint()} -->"])


def fingerprint() -> str:
    """Digest of the findings, of the studies that they judge and of these studies' quick grids."""
    digest = hashlib.sha256()
    for name in ("finding", *MODULES):
        digest.update(inspect.getsource(import_module(f"simulations.findings.{name}")).encode())
    for name in sorted({finding.study for finding in all_findings()}):
        digest.update(inspect.getsource(module_of(name)).encode())
        digest.update("".join(map(canonical, find_study(name).quick)).encode())
    return digest.hexdigest()[:16]


def _count(judged: list[Judged]) -> str:
    verdicts = [entry.verdict for entry in judged]
    return (
        f"{verdicts.count('holds')} of {len(judged)} claims hold, {verdicts.count('unclear')} are unclear within two "
        f"standard errors, {verdicts.count('FAILS')} fail."
    )


def _line(entry: Judged) -> str:
    finding = entry.finding
    tolerance = f" ± {finding.tolerance:g}" if finding.tolerance and finding.relation == "=" else ""
    error = f"{entry.found.se:.1g}" if np.isfinite(entry.found.se) else "–"
    predicted = f"{finding.relation} {finding.predicted:g}{tolerance}"
    statement = finding.statement.replace("|", "\\|")
    return f"| {statement} | {finding.source} | {predicted} | {entry.found.value:.4g} | {error} | {entry.verdict} |"
