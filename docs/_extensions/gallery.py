"""The directives `gallery` and `drawn`: figures of the paper with caption and the command of each.

They are taken from build/figures, where `make docs` draws them from the rows that ship with the repository, or from the
folder that TRAK_FIGURES names.
"""

from __future__ import annotations

import os
import shutil
from functools import cache
from importlib import import_module
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from paper_figures.__main__ import figure_modules
from simulations.engine.study import all_studies

HOME = Path(__file__).parents[2]


def drawn() -> Path:
    return Path(os.environ.get("TRAK_FIGURES", HOME / "build" / "figures"))


@cache
def rooms() -> dict[str, list[str]]:
    """Room of the paper → its figures."""
    found: dict[str, list[str]] = {}
    for name, module in figure_modules().items():
        found.setdefault(module.split(".")[1], []).append(name)
    return found


@cache
def summaries() -> dict[str, str]:
    return {study.name: study.summary for study in all_studies()}


def figure(name: str) -> str:
    """One figure as Markdown: picture, caption, command."""
    caption = drawn().joinpath(f"{name}.txt").read_text(encoding="utf-8").strip().replace("*", r"\*")
    summary = summaries().get(name) or _of_module(name)
    return "\n".join(
        [
            f":::{{figure}} /_figures/{name}.png",
            f":alt: {_plain(summary)}",
            f":width: {_pixels(drawn() / f'{name}.png') * 2 // 5}px",
            caption,
            ":::",
            "",
            f"`python -m simulations run {name}` computes it, `python -m paper_figures {name}` draws it."
            if name in summaries()
            else f"`python -m paper_figures {name}` draws it.",
        ]
    )


def _of_module(name: str) -> str:
    """First line of the module that draws a figure which has no study of its own."""
    return (import_module(figure_modules()[name]).__doc__ or "").split("\n")[0]


def _pixels(picture: Path) -> int:
    """Width of a PNG, from its header: a narrow figure stays narrow."""
    with picture.open("rb") as file:
        return int.from_bytes(file.read(24)[16:20], "big")


def _plain(text: str) -> str:
    return " ".join(text.replace("`", "").split())


class Drawn(SphinxDirective):
    """Argument: the name of a figure."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(figure(self.arguments[0]))


class Gallery(SphinxDirective):
    """Argument: a room of `paper_figures`; its figures, each under a rubric of its own."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        text = "\n\n".join(f"(figure-{name})=\n**{name}**\n\n{figure(name)}" for name in rooms()[self.arguments[0]])
        return self.parse_text_to_nodes(text)


def copy_figures(app: Sphinx) -> None:
    missing = [name for name in figure_modules() if not drawn().joinpath(f"{name}.png").is_file()]
    if missing:
        raise FileNotFoundError(f"{drawn()} lacks {', '.join(missing)}: `make docs` draws them")
    target = Path(app.srcdir) / "_figures"
    target.mkdir(exist_ok=True)
    for name in figure_modules():
        shutil.copyfile(drawn() / f"{name}.png", target / f"{name}.png")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", copy_figures)
    app.add_directive("drawn", Drawn)
    app.add_directive("gallery", Gallery)
    return {"parallel_read_safe": True}
