"""trak-theory features: the gradients of a torch model as a file that the audit reads."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from trak_theory.cli.speaking import AsJson, mistakes_in_one_line, say, say_json

PARTS = "(module, output, training, queries), the arguments of trak_theory.torch_bridge.linearize"


def features(
    factory: Annotated[str, typer.Argument(metavar="SCRIPT.py:FACTORY", help="A function without arguments.")],
    out: Annotated[Path, typer.Option(help="The file to write.", dir_okay=False)] = Path("features.npz"),
    ridge: Annotated[float, typer.Option(help="The model's ridge, sum convention.", min=0.0)] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Write features, queries, residual and curvature of a torch model, in the scale that `audit` reads.

    FACTORY() returns (module, output, training, queries): a trained network, MARGIN or another scalar output of
    trak_theory.torch_bridge, and two pairs (inputs, targets).
    """
    with mistakes_in_one_line():
        make = _function(factory)
        from trak_theory.torch_bridge import linearize

        parts = _called(factory, make)
        if not (isinstance(parts, tuple) and len(parts) == 4):
            raise ValueError(f"{factory} must return {PARTS}; it returned {type(parts).__name__}")
        lin = linearize(*parts, ridge=ridge)
        try:
            np.savez(out, features=lin.features, queries=lin.queries, residual=lin.residual, curvature=lin.curvature)
        except OSError as error:
            raise OSError(f"{out} cannot be written: {error}") from error
    (n, p), q = lin.features.shape, len(lin.queries)
    if as_json:
        say_json({"file": str(out), "n": n, "p": p, "q": q})
        return
    say(f"{out}: n = {n} points, p = {p} parameters, q = {q} queries; next: trak-theory audit {out}")


def _called(factory: str, make: Callable[[], object]) -> object:
    """What the user's function returns; what it raises is a mistake with the function's name."""
    try:
        return make()
    except Exception as error:
        raise ValueError(f"{factory} raised {type(error).__name__}: {error}; --verbose shows where") from error


def _function(factory: str) -> Callable[[], object]:
    """The function that SCRIPT.py:FACTORY names."""
    script, colon, name = factory.rpartition(":")
    path = Path(script)
    if not (colon and name and path.is_file()):
        raise ValueError(f"{factory!r} names no function of a file: give SCRIPT.py:FACTORY")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = getattr(module, name, None)
    if not callable(found):
        raise ValueError(f"{path} has no function {name!r}")
    return found
