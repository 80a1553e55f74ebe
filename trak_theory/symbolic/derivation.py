"""A derivation: a statement with its assumptions, its steps, its expressions and its numeric twin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import sympy as sp


@dataclass(frozen=True)
class Step:
    """One step: what is done, in prose, and the formulas it gives, in LaTeX, one a line."""

    prose: str
    formula: str


@dataclass(frozen=True, eq=False)
class Derivation:
    """A result derived by machine.

    statement, assumptions and the prose of the steps are LaTeX text; `expressions` are sympy, in the letters of
    the notation table; `twins` are the dotted names of the numeric code that computes the same thing.
    """

    title: str
    statement: str
    assumptions: tuple[str, ...]
    steps: tuple[Step, ...]
    twins: tuple[str, ...]
    expressions: Mapping[str, sp.Expr] = field(repr=False)


def equation(left: str, *right: sp.Expr) -> str:
    """`left = right = …` in LaTeX; sympy expressions are printed, strings are taken as LaTeX.

    >>> equation("I", sp.Symbol("r") * sp.Symbol("c"))
    'I = c r'
    """
    return " = ".join([left, *(side if isinstance(side, str) else sp.latex(side) for side in right)])


def lines(formulas: Iterable[str]) -> str:
    """Several formulas of one step."""
    return "\n".join(formulas)
