"""Command line: trak-theory COMMAND. Every command lives in a module of its own and is registered here."""

from __future__ import annotations

import typer

from trak_theory.cli.audit import audit
from trak_theory.cli.claims import claims
from trak_theory.cli.plan import plan

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.command()(claims)
app.command()(audit)
app.command()(plan)


@app.callback()
def _describe() -> None:
    """How wrong is a data attribution score?"""


def main() -> None:
    app(prog_name="trak-theory")


if __name__ == "__main__":
    main()
