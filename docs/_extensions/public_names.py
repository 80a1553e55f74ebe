"""The directive `public`: names of a module as a table, then each with its signature and docstring."""

from __future__ import annotations

import inspect
from importlib import import_module

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Public(SphinxDirective):
    """Argument: the module. Content: its names, separated by blanks; all of `__all__` if there is none."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        module = import_module(self.arguments[0])
        names = " ".join(self.content).split() or sorted(module.__all__, key=str.lower)
        table = [".. autosummary::", "   :nosignatures:", "", *(f"   ~{module.__name__}.{name}" for name in names)]
        entries = [line for name in names for line in _entry(module.__name__, name, getattr(module, name))]
        return self.parse_text_to_nodes("\n".join(["```{eval-rst}", *table, "", *entries, "```"]))


def _entry(module: str, name: str, value: object) -> list[str]:
    if inspect.isclass(value):
        return [f".. autoclass:: {module}.{name}", "   :members:", ""]
    kind = "autofunction" if callable(value) else "autodata"
    return [f".. {kind}:: {module}.{name}", ""]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("public", Public)
    return {"parallel_read_safe": True}
