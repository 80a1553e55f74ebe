"""Docstrings of the library as reStructuredText: plain prose, indented formulas, columns of names, doctests."""

from __future__ import annotations

import re
from itertools import groupby

from sphinx.application import Sphinx

COLUMN = re.compile(r"(\S(?:.*?[^\s,.;:])?) {2,}(\S.*)")
SPECIAL = re.compile(r"([\\*|]|(?<=\w)_(?!\w))")
ALIAS = re.compile(r"TypeAliasForwardRef\('(\w+)'\)")
PRIVATE = re.compile(r"~numpy\._[\w.]*\.(?=_)")
ARRAY_LIKE = (
    "_Buffer | _SupportsArray[~numpy.dtype[~typing.Any]] | _NestedSequence[_SupportsArray[~numpy.dtype[~typing.Any]]]"
    " | complex | bytes | str | _NestedSequence[complex | bytes | str]"
)
OBJECT = re.compile(r"<(?:built-in )?(?:function |method )?(\w+)(?: at 0x\w+)?>")  # a default that is no literal
CODE = re.compile(r"``?([^`]+)``?")
EMPHASIS = re.compile(r"(?<![\w\\*])\\\*(\w+)\\\*(?!\w)")  # after escaping; the star of φ* is none


def as_rst(lines: list[str]) -> list[str]:
    """The same docstring, where nothing is markup by accident."""
    found: list[str] = []
    for blank, block in groupby(lines, key=lambda line: not line.strip()):
        if not blank:
            found += [*_block(list(block)), ""]
    return found


def _block(block: list[str]) -> list[str]:
    if block[0].lstrip().startswith(">>>"):
        return block
    if COLUMN.fullmatch(block[0]):
        return _columns(block)
    found: list[str] = []
    for indented, part in groupby(block, key=lambda line: line.startswith("    ")):
        text = list(part)
        if indented and not found:
            found += ["::", "", *text, ""]
        elif indented and not _item(found[0]):
            found += ["", "::", "", *text, ""]
        else:
            found += [_prose(line) for line in text]
    return found


def _item(line: str) -> bool:
    return line.startswith(("- ", "1. "))


def _columns(block: list[str]) -> list[str]:
    """Lines `name   meaning`, with continuations, as a definition list."""
    found: list[str] = []
    for line in block:
        column = COLUMN.fullmatch(line)
        if column and not line.startswith(" "):
            found += [f"``{column[1].replace('`', '')}``", f"    {_prose(column[2])}"]
        elif COLUMN.fullmatch(line.strip()):  # a column of the values that a name can have
            found += ["", f"    {_prose(line.strip())}"]
        else:
            found.append(f"    {_prose(line.strip())}")
    return found


def _prose(line: str) -> str:
    parts = CODE.split(line)
    return "".join(rf"\ ``{part}``\ " if odd % 2 else _plain(part) for odd, part in enumerate(parts))


def _plain(text: str) -> str:
    return EMPHASIS.sub(r"*\1*", SPECIAL.sub(r"\\\1", text))


def _readable(signature: str) -> str:
    """Aliases by their names, and defaults that Python can read: with any other, Sphinx prints full paths."""
    named = PRIVATE.sub("", ALIAS.sub(r"\1", signature)).replace(ARRAY_LIKE, "ArrayLike")
    return OBJECT.sub(r"\1", named.replace("<factory>", "..."))


def setup(app: Sphinx) -> dict[str, bool]:
    def rewrite(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
        lines[:] = as_rst(lines)

    def name_aliases(
        app: Sphinx, what: str, name: str, obj: object, options: object, signature: str | None, returned: str | None
    ) -> tuple[str | None, str | None]:
        return signature and _readable(signature), returned and _readable(returned)

    app.connect("autodoc-process-docstring", rewrite)
    app.connect("autodoc-process-signature", name_aliases)
    return {"parallel_read_safe": True}
