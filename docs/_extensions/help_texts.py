"""The directive `help`: what `trak-theory COMMAND --help` prints."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from typer.testing import CliRunner

from trak_theory.cli.main import app

WIDTH = {"COLUMNS": "90", "TERMINAL_WIDTH": "90", "NO_COLOR": "1"}


class Help(SphinxDirective):
    """Argument: a command; none: the whole."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        arguments = [*self.arguments, "--help"]
        text = CliRunner().invoke(app, arguments, prog_name="trak-theory", env=WIDTH).output
        block = nodes.literal_block(text, text.strip())
        block["language"] = "text"
        return [block]


def setup(sphinx: Sphinx) -> dict[str, bool]:
    sphinx.add_directive("help", Help)
    return {"parallel_read_safe": True}
