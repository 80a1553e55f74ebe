"""Markdown tables of stored rows: a module has the name of its study, and `tables(rows)` gives what is printed."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

import pandas as pd


def tabled_studies() -> list[str]:
    """Names of the studies that have tables. Imports none of them."""
    return [module.name for module in iter_modules(__path__)]


def tables(name: str, rows: pd.DataFrame) -> str:
    """The tables of a study in `tabled_studies`."""
    printed: str = import_module(f"{__name__}.{name}").tables(rows)
    return printed
