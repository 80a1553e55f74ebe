"""Docstrings: whole, and about what is computed."""

import ast

import pytest
from support.source import ROOT, files, tree

WRAPPER = '"\n"'  # what an automatic wrapper of string literals leaves inside a docstring


def docstrings(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            yield getattr(node, "name", path.stem), text


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_docstring_was_broken_by_a_line_wrapper(path):
    assert [name for name, text in docstrings(path) if WRAPPER in text] == []
