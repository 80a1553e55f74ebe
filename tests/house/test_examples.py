"""The examples in docstrings run and show what they print."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

from trak_theory.errors import MissingExtraError

HOME = Path(__file__).parents[2]
SHOWN = [
    ".".join(path.relative_to(HOME).with_suffix("").parts)
    for path in sorted((HOME / "trak_theory").rglob("*.py"))
    if ">>> " in path.read_text()
]


def test_there_are_examples():
    assert len(SHOWN) > 20


@pytest.mark.parametrize("name", SHOWN)
def test_examples_of_a_module_print_what_they_show(name):
    try:
        module = import_module(name)
    except MissingExtraError as error:
        pytest.skip(str(error))
    done = doctest.testmod(module, verbose=False)
    assert done.attempted > 0
    assert done.failed == 0
