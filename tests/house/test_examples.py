"""The examples in docstrings run and show what they print."""

from __future__ import annotations

import ast
import doctest
from importlib import import_module
from pathlib import Path

import pytest

from trak_theory.errors import MissingExtraError

HOME = Path(__file__).parents[2]
SOURCES = sorted((HOME / "trak_theory").rglob("*.py"))
SHOWN = [".".join(path.relative_to(HOME).with_suffix("").parts) for path in SOURCES if ">>> " in path.read_text()]


def test_sixty_docstrings_have_an_example():
    texts = [text for path in SOURCES for node in ast.walk(ast.parse(path.read_text())) if (text := docstring(node))]
    assert sum(">>> " in text for text in texts) >= 60


def docstring(node):
    return ast.get_docstring(node) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) else None


@pytest.mark.parametrize("name", SHOWN)
def test_examples_of_a_module_print_what_they_show(name):
    try:
        module = import_module(name)
    except MissingExtraError as error:
        pytest.skip(str(error))
    done = doctest.testmod(module, verbose=False)
    assert done.attempted > 0
    assert done.failed == 0
