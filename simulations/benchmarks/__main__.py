"""`python -m simulations.benchmarks NAME`: every module beside this one with a `main()`, or package with a command."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

import typer

from simulations import benchmarks

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Time an estimator against its floor and its rivals."
)

for module in iter_modules(benchmarks.__path__):
    if module.name not in ("__main__", "timing"):
        path = f"simulations.benchmarks.{module.name}" + (".command" if module.ispkg else "")
        app.command(module.name)(import_module(path).main)


@app.callback()
def _every_benchmark_by_name() -> None:
    """Time an estimator against its floor and its rivals, side by side in one run."""


if __name__ == "__main__":
    app()
