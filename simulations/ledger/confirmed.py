"""Claims at full size, under a seed that nothing was tuned on: registered threshold, quick and full side by side."""

from __future__ import annotations

from simulations.findings.finding import Finding, Judged
from simulations.findings.registry import confirmation, registry
from simulations.ledger.judge import Ledger, count, discussions, interval, markdown, predicted, unsettled

NONE = "No study has been run at full size under the seed of the confirmation."
HEADINGS = ("study", "claim", "registered", "quick", "full", "95 % interval", "over", "quick", "full")


def confirmed_table(quick: Ledger, full: Ledger) -> str:
    """Markdown: the count, what does not hold and why, what holds, what was not run or has aged."""
    if not full.judged:
        return "\n\n".join([NONE, *_missing(full), *_amendments()])
    before = {_key(entry): entry for entry in quick.judged}
    holding = [entry for entry in full.judged if entry.verdict == "holds"]
    parts = [f"{count(full)} {_changes(full, before)}"]
    parts += _part("What does not hold, or is not settled", unsettled(full), before)
    parts += discussions(full, _at_full)
    parts += _part("What holds", holding, before)
    return "\n\n".join([*parts, *_missing(full), *_aged(full), *_amendments()])


def _at_full(finding: Finding) -> str:
    return finding.at_full or finding.discussion


def _changes(full: Ledger, before: dict[tuple[str, str], Judged]) -> str:
    both = [(before[_key(entry)], entry) for entry in full.judged if _key(entry) in before]
    changed = sum(quick.verdict != entry.verdict for quick, entry in both)
    return f"Of {len(both)} that the quick size judged too, {changed} have another verdict there."


def _key(entry: Judged) -> tuple[str, str]:
    return entry.finding.study, entry.statement


def _part(title: str, entries: list[Judged], before: dict[tuple[str, str], Judged]) -> list[str]:
    if not entries:
        return []
    return [
        f"### {title}",
        "\n".join(markdown(HEADINGS, [_cells(entry, before.get(_key(entry))) for entry in entries])),
    ]


def _cells(entry: Judged, quick: Judged | None) -> list[str]:
    found = entry.found
    first = [entry.finding.study, entry.statement, predicted(entry.finding)]
    measured = [f"{quick.found.value:.4g}" if quick else "–", f"{found.value:.4g}", interval(found), found.over]
    return [*first, *measured, quick.verdict if quick else "–", entry.verdict]


def _missing(full: Ledger) -> list[str]:
    if not full.missing:
        return []
    return [f"Not yet run at full size: {', '.join(map(_with_command, full.missing))}."]


def _with_command(name: str) -> str:
    return f"{name} (`python -m simulations run {name} --size full --seed {confirmation(name)}`)"


def _aged(full: Ledger) -> list[str]:
    """Full sizes take hours and are not computed again for every change of code; the page says which have aged."""
    if not full.stale:
        return []
    names = ", ".join(name for name in full.stale)
    return [f"Code or packages have changed since these were run: {names}."]


def _amendments() -> list[str]:
    """Claims that are no longer what was registered: their thresholds, their wording, their measurement."""
    lines = [
        f"- {study}, *{statement}*: {change.was} until {change.on}: {change.why}."
        for (study, statement), entry in registry().items()
        for change in entry.amended
    ]
    return ["### Claims changed after they were registered", "\n".join(lines) if lines else "None."]
