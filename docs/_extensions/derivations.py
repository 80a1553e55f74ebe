"""The directive `derivation`: assumptions, steps and numeric code of a derivation, printed from its expressions."""

from __future__ import annotations

import re
from functools import cache

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from trak_theory.symbolic import derivations
from trak_theory.symbolic.derivation import Derivation, Step

PROSE = ((r"--", "–"), (r"\\emph\{([^}]*)\}", r"*\1*"), (r"\\texttt\{([^}]*)\}", r"`\1`"), (r"``(.*?)''", r"“\1”"))


@cache
def known() -> dict[str, Derivation]:
    return derivations()


class Shown(SphinxDirective):
    """Argument: the name of a derivation in `trak_theory.symbolic`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        return self.parse_text_to_nodes("\n\n".join(_markdown(name, known()[name])))


def _markdown(name: str, derivation: Derivation) -> list[str]:
    twins = ", ".join(f"`{twin}`" for twin in derivation.twins)
    return [
        _prose(derivation.statement),
        "**Assumptions**",
        "\n".join(f"- {_prose(assumption)}" for assumption in derivation.assumptions),
        "**Derivation**",
        *(text for step in derivation.steps for text in _step(step)),
        f"Printed from the expressions of `trak_theory.symbolic.{name}`. Evaluated by {twins}.",
    ]


def _step(step: Step) -> tuple[str, str]:
    lines = step.formula.splitlines()
    formula = lines[0] if len(lines) == 1 else "\\begin{gathered}\n" + " \\\\\n".join(lines) + "\n\\end{gathered}"
    return _prose(step.prose), f"$$\n{formula}\n$$"


def _prose(text: str) -> str:
    for pattern, replacement in PROSE:
        text = re.sub(pattern, replacement, text)
    return text


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("derivation", Shown)
    return {"parallel_read_safe": True}
