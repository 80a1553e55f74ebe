"""Command line of the figures: python -m paper_figures [NAME…]."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Annotated

import typer
from joblib import Parallel, cpu_count, delayed

import paper_figures
from paper_figures.drawing.choice import Chosen, choices
from paper_figures.drawing.style import Drawing, style
from simulations.__main__ import Size
from simulations.engine.reading import ResultsError, Rules, reading

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

HELPERS = ("__main__", "drawing", "rivals", "rivals_cost")


@cache
def figure_modules() -> dict[str, str]:
    """Name of each figure → dotted name of the module that draws it. Imports none of them."""
    found = walk_packages(paper_figures.__path__, "paper_figures.")
    modules = [module.name for module in found if not module.ispkg and module.name.split(".")[1] not in HELPERS]
    return dict(sorted((module.rpartition(".")[2], module) for module in modules))


@app.command()
def main(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Figures to draw; all by default.")] = None,
    results: Annotated[Path, typer.Option(help="Folder that the studies wrote.")] = Path("results"),
    out: Annotated[Path, typer.Option(help="Folder of the figures.")] = Path("figures"),
    jobs: Annotated[int | None, typer.Option(min=1, help="Worker processes.", show_default="all cores")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seed of the results; give several to pool them.")] = None,
    size: Annotated[Size | None, typer.Option(help="Size of the results.", show_default="the largest")] = None,
    keep_stale: Annotated[
        bool,
        typer.Option("--keep-stale", help="Draw results of other code as well; the figure and its caption say so."),
    ] = False,
) -> None:
    """Draw figures from stored results: OUT/NAME.pdf, .png, the plotted numbers .csv and the caption .txt.

    A figure is drawn at the largest size that all studies which it reads hold whole under one seed, the seed of the
    confirmation before 0; its caption ends with both.
    The exit status is 1 when results are missing or stale; the message names the command that computes them.
    """
    unknown = sorted(set(names or []) - set(figure_modules()))
    if unknown:
        raise typer.BadParameter(
            f"unknown figure {unknown[0]!r}: choose from {list(figure_modules())}", param_hint="NAME"
        )
    missing = False
    chosen = names or list(figure_modules())
    among = choices(seed or (), size.value if size else None)
    drawings = Parallel(n_jobs=min(jobs or cpu_count(), len(chosen)), return_as="generator")(
        delayed(_draw)(name, figure_modules()[name], results, out, among, keep_stale) for name in chosen
    )
    for name, (paths, error) in zip(chosen, drawings, strict=True):
        typer.echo(f"{name}: {error or ', '.join(map(str, paths))}", err=bool(error))
        missing = missing or bool(error)
    raise typer.Exit(int(missing))


def _draw(
    name: str, module: str, results: Path, out: Path, among: list[Chosen], keep_stale: bool
) -> tuple[list[Path], str]:
    """The files of one figure, drawn from the first choice of rows that is there, or what is missing for it."""
    missing = ""
    for chosen in among:
        try:
            with style(), reading(chosen.seeds, whole=chosen.size, keep_stale=keep_stale) as rules:
                drawing = import_module(module).draw(results)
                return _marked(drawing, rules, chosen).save(name, out), ""
        except ResultsError as error:
            missing = str(error)
    return [], missing


def _marked(drawing: Drawing, rules: Rules, chosen: Chosen) -> Drawing:
    """The drawing with a word on stale results where there are any, and on the rows it was drawn from."""
    remarks = [f"Stale: {study}: {what}." for study, what in rules.stale.items()]
    if rules.stale:
        drawing.figure.text(0.5, 1.0, "drawn from stale results", color="red", ha="center", va="top")
    return replace(drawing, caption=" ".join([drawing.caption, *remarks, chosen.in_words()]))


if __name__ == "__main__":
    app(prog_name="python -m paper_figures")
