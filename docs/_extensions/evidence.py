"""Links on the page of claims: from a row to its study, and from a study to its data and to the statement it tests."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from sphinx.application import Sphinx

from paper_figures.__main__ import figure_modules

DOCS = Path(__file__).parents[1]
CLAIMS = DOCS.with_name("CLAIMS.md")
HEADING = re.compile(r"^### (\w+)\n\n.*$", re.MULTILINE)
ROW = re.compile(r"^\| (\w+) \|", re.MULTILINE)
STATEMENT = re.compile(r":label: ([\w-]+)\n(?:(?!:label:|\n## ).)*", re.DOTALL)


def linked(claims: str) -> str:
    """CLAIMS.md with its links."""
    studies = set(re.findall(HEADING, claims))
    text = HEADING.sub(lambda found: f"(claims-{found[1]})=\n{found[0]} {_about(found[1])}", claims)
    text = re.sub(r"\(docs/([\w-]+)\.md\)", r"({doc}`\1`)", text)
    return ROW.sub(lambda row: f"| [{row[1]}](#claims-{row[1]}) |" if row[1] in studies else row[0], text)


def _about(study: str) -> str:
    """The figure, whose caption names data, sizes and replicates, and what of the theory the study tests."""
    parts = []
    if study in figure_modules():
        parts.append(f"Data, sizes and replicates: {{ref}}`figure <figure-{study}>`.")
    if found := statements().get(study):
        parts.append("Tests " + ", ".join(f"{{prf:ref}}`{label}`" for label in found) + ".")
    return " ".join(parts)


@cache
def statements() -> dict[str, list[str]]:
    """Study → the numbered statements of the theory that name its figure."""
    found: dict[str, list[str]] = {}
    for page in sorted(DOCS.glob("theory/*.md")):
        for statement in STATEMENT.finditer(page.read_text(encoding="utf-8")):
            for study in dict.fromkeys(re.findall(r"<figure-(\w+)>", statement[0])):
                found.setdefault(study, []).append(statement[1])
    return found


def setup(app: Sphinx) -> dict[str, bool]:
    def read(app: Sphinx, page: str, source: list[str]) -> None:
        if page == "evidence":
            app.env.note_dependency(str(CLAIMS))
            source[0] = linked(CLAIMS.read_text(encoding="utf-8"))

    app.connect("source-read", read)
    return {"parallel_read_safe": True}
