"""CLAIMS.md: tables written between the marks of a page."""

from __future__ import annotations

from pathlib import Path

FORMULA_MARKS = ("<!-- ledger -->", "<!-- /ledger -->")
STUDY_MARKS = ("<!-- studies -->", "<!-- /studies -->")


class MarksError(ValueError):
    """A page lacks the marks between which a table goes."""


def write_between_marks(path: Path, table: str, marks: tuple[str, str]) -> None:
    """Replace what stands between two lines of marks, such as <!-- ledger --> and <!-- /ledger -->."""
    begin, end = marks
    text = path.read_text() if path.exists() else ""
    if text.count(begin) != 1 or text.count(end) != 1:
        raise MarksError(f"{path} needs one line {begin} and one line {end}; the table goes between them")
    head, rest = text.split(begin)
    path.write_text(f"{head}{begin}\n\n{table}\n\n{end}{rest.split(end)[1]}")
