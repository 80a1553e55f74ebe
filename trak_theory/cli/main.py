"""Command line: trak-theory COMMAND. Every command lives in a module of its own and is registered here."""

from __future__ import annotations

from typing import Annotated

import typer

from trak_theory import __version__
from trak_theory.cli.audit import audit
from trak_theory.cli.claims import claims
from trak_theory.cli.features import features
from trak_theory.cli.lds import lds
from trak_theory.cli.plan import plan
from trak_theory.cli.speaking import BAD_INPUT, VOICE, Voice
from trak_theory.errors import MissingExtraError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
app.command()(claims)
app.command()(audit)
app.command()(features)
app.command()(plan)
app.command()(lds)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"trak-theory {__version__}")
        raise typer.Exit


@app.callback()
def _describe(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print errors only; the exit status is the answer.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print the traceback of an error too.")] = False,
) -> None:
    """How wrong is a data attribution score?

    Exit status 0: done, or trust; 3: do not trust; 2: the input cannot be used.
    """
    if quiet and verbose:
        raise typer.BadParameter("choose one of --quiet and --verbose")
    VOICE.set(Voice(quiet, verbose))


def main() -> None:
    """Run the command line; a missing extra is one line that names it, exit status 2."""
    try:
        app(prog_name="trak-theory")
    except ImportError as error:
        known = error if isinstance(error, MissingExtraError) else MissingExtraError(error.name or str(error))
        typer.echo(f"error: {known}", err=True)
        raise SystemExit(BAD_INPUT) from error


if __name__ == "__main__":
    main()
