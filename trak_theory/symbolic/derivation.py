"""A derivation: a statement with its assumptions, its steps, its expressions and its numeric twin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import sympy as sp
from sympy.printing.latex import LatexPrinter


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
    return " = ".join([left, *(side if isinstance(side, str) else latex(side) for side in right)])


def latex(expression: sp.Basic) -> str:
    """The expression in LaTeX, as one would write it: positive terms first, σ′ for a derivative.

    >>> latex(1 - sp.Symbol("h")), latex(sp.Symbol("e") - 1)
    ('1 - h', 'e - 1')
    """
    return _Printer({"order": "none"}).doprint(expression)


class _Printer(LatexPrinter):
    def _print_Add(self, expr: sp.Add, order: str | None = None) -> str:
        terms = sorted(expr.args, key=lambda term: term.could_extract_minus_sign())
        return super()._print_Add(sp.Add(*terms, evaluate=False), order=order)

    def _print_Derivative(self, expr: sp.Derivative) -> str:
        primes = "'" * expr.derivative_count
        return self._print(expr.expr).replace(r"\sigma", r"\sigma" + primes)

    def _print_loggamma(self, expr: sp.loggamma, exp: str | None = None) -> str:
        return rf"\log\Gamma\left({self._print(expr.args[0])}\right)"


def lines(formulas: Iterable[str]) -> str:
    """Several formulas of one step."""
    return "\n".join(formulas)
