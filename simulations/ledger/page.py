"""CLAIMS.md: tables written between the marks of a page, which carries digests of what it says and is made from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

STUDY_MARKS = ("<!-- studies -->", "<!-- /studies -->")
FULL_MARKS = ("<!-- full -->", "<!-- /full -->")
FORMULA_MARKS = ("<!-- formulas -->", "<!-- /formulas -->")
DIGEST_MARKS = ("<!-- digests -->", "<!-- /digests -->")


class MarksError(ValueError):
    """A page lacks the marks between which a table goes."""


def write_page(path: Path, *, studies: str, full: str, formulas: str, made_from: str, evidence: Sequence[Path]) -> None:
    """Replace the tables and the digests of a page; nothing is written where a mark is missing."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    for table, marks in ((studies, STUDY_MARKS), (full, FULL_MARKS), (formulas, FORMULA_MARKS)):
        text = _replaced(text, table, marks, path)
    text = _replaced(text, digests(text, made_from, evidence), DIGEST_MARKS, path)
    path.write_text(text, encoding="utf-8")


def between(text: str, marks: tuple[str, str]) -> str:
    """Text between two marks, without the blank lines around it."""
    begin, end = marks
    return text.split(begin)[1].split(end)[0].strip()


def digests(text: str, made_from: str, evidence: Sequence[Path]) -> str:
    """Of all that the page says outside of its own digests, of the code it is made from, and of its rows."""
    says = re.sub(f"{DIGEST_MARKS[0]}.*{DIGEST_MARKS[1]}", "", text, flags=re.DOTALL)
    rows = " and ".join(f"`{_digest(path.read_bytes()) if path.exists() else 'none'}`" for path in evidence)
    page = _digest(says.encode())
    return f"Digests: of this page `{page}`, of the code it is made from `{made_from}`, of its rows {rows}."


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _replaced(text: str, table: str, marks: tuple[str, str], path: Path) -> str:
    begin, end = marks
    if text.count(begin) != 1 or text.count(end) != 1:
        raise MarksError(f"{path} needs one line {begin} and one line {end}; the table goes between them")
    head, rest = text.split(begin)
    return f"{head}{begin}\n\n{table}\n\n{end}{rest.split(end)[1]}"
