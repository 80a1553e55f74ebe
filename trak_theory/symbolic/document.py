"""All derivations as one LaTeX document: the letters, then statement, assumptions, steps and numeric twins of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import sympy as sp

from trak_theory.symbolic.derivation import Derivation
from trak_theory.symbolic.notation import LETTERS, Letter, j

PREAMBLE = r"""\documentclass{article}
\usepackage{amsmath}
\usepackage[margin=2.5cm]{geometry}
\setlength{\parindent}{0pt}
\setlength{\parskip}{4pt}
\title{Derivations}
\date{}
\begin{document}
\maketitle
Every formula below is printed from the expression that the numeric code is tested against.
Sign: influence is the output with a point minus the output without it. Ridge: sum convention.
"""


def latex_document(derivations: Mapping[str, Derivation]) -> str:
    """A document that plain LaTeX (with amsmath and geometry) compiles."""
    parts = [PREAMBLE, _letters(LETTERS.values()), *map(_section, derivations.values()), "\\end{document}\n"]
    return "\n".join(parts)


def _letters(letters: Iterable[Letter]) -> str:
    lines = [
        rf"${_symbol(letter)}$ & \texttt{{{_plain(letter.name)}}} & {_shape(letter)} & {letter.meaning} \\"
        for letter in letters
    ]
    halves = lines[: len(lines) // 2], lines[len(lines) // 2 :]
    tables = ("\\begin{tabular}{llll}\n" + "\n".join(half) + "\n\\end{tabular}\n" for half in halves)
    return "\\section*{Letters}\n" + "\n".join(tables)


def _section(derivation: Derivation) -> str:
    assumptions = "\n".join(rf"\item {assumption}" for assumption in derivation.assumptions)
    steps = "\n".join(f"{step.prose}\n{_display(step.formula)}" for step in derivation.steps)
    twins = ", ".join(rf"\texttt{{{_plain(twin)}}}" for twin in derivation.twins)
    return "\n".join(
        (
            rf"\section{{{derivation.title}}}",
            derivation.statement,
            rf"\paragraph{{Assumptions}} \begin{{itemize}}{assumptions}\end{{itemize}}",
            r"\paragraph{Steps}",
            steps,
            rf"\paragraph{{Numeric code}} {{\raggedright {twins}\par}}",
        )
    )


def _display(formulas: str) -> str:
    return "\\begin{gather*}\n" + formulas.replace("\n", " \\\\\n") + "\n\\end{gather*}"


def _symbol(letter: Letter) -> str:
    return sp.latex(letter.symbol[j] if letter.shape[:1] == ("j",) else letter.symbol)


def _plain(name: str) -> str:
    return name.replace("_", r"\_")


def _shape(letter: Letter) -> str:
    return "$" + r" \times ".join(letter.shape) + "$" if letter.shape else "scalar"
