"""Command line of the figures: python -m paper_figures [NAME…]."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Annotated

import typer
from joblib import Parallel, cpu_count, delayed

import paper_figures
from paper_figures.style import style
from simulations.store import CorruptError, NoResultsError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

NOT_FIGURES = {"__main__", "style", "curves", "torch_panels", "torch_images"}


def figure_names() -> list[str]:
    return sorted({module.name for module in iter_modules(paper_figures.__path__)} - NOT_FIGURES)


@app.command()
def main(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Figures to draw; all by default.")] = None,
    results: Annotated[Path, typer.Option(help="Folder that the studies wrote.")] = Path("results"),
    out: Annotated[Path, typer.Option(help="Folder of the figures.")] = Path("figures"),
    jobs: Annotated[int | None, typer.Option(min=1, help="Worker processes.", show_default="all cores")] = None,
) -> None:
    """Draw figures from stored results: OUT/NAME.pdf, .png, the plotted numbers .csv and the caption .txt.

    The exit status is 1 when results are missing; the message names the command that computes them.
    """
    unknown = sorted(set(names or []) - set(figure_names()))
    if unknown:
        raise typer.BadParameter(f"unknown figure {unknown[0]!r}: choose from {figure_names()}", param_hint="NAME")
    missing = False
    chosen = names or figure_names()
    drawings = Parallel(n_jobs=min(jobs or cpu_count(), len(chosen)), return_as="generator")(
        delayed(_draw)(name, results, out) for name in chosen
    )
    for name, (paths, error) in zip(chosen, drawings, strict=True):
        typer.echo(f"{name}: {error or ', '.join(map(str, paths))}", err=bool(error))
        missing = missing or bool(error)
    raise typer.Exit(int(missing))


def _draw(name: str, results: Path, out: Path) -> tuple[list[Path], str]:
    """The files of one figure, or what is missing for it."""
    try:
        with style():
            return import_module(f"paper_figures.{name}").draw(results).save(name, out), ""
    except (NoResultsError, CorruptError) as error:
        return [], str(error)


if __name__ == "__main__":
    app(prog_name="python -m paper_figures")
