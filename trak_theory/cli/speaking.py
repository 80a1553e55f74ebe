"""How every command speaks and ends: results on standard output, mistakes in one line, three exit statuses."""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated

import typer

from trak_theory.errors import EXTRAS, ClusterError, ConvergenceError, MissingExtraError

DONE, BAD_INPUT, NOT_TRUSTED = 0, 2, 3
REFUSED = (
    ImportError,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    MemoryError,
    OverflowError,
    ClusterError,
    ConvergenceError,
)
AsJson = Annotated[bool, typer.Option("--json", help="The result as JSON on standard output, and nothing else there.")]


@dataclass(frozen=True)
class Voice:
    """quiet: results only where --json asks for them; verbose: the traceback of a mistake."""

    quiet: bool = False
    verbose: bool = False


VOICE: ContextVar[Voice] = ContextVar("voice")  # of this invocation of the command line


def say(text: str) -> None:
    """A line of the result, unless --quiet."""
    if not _voice().quiet:
        typer.echo(text)


def say_json(record: object) -> None:
    """The result as strict JSON: a number that is not finite is null."""
    typer.echo(json.dumps(_finite(record), indent=2, ensure_ascii=False, allow_nan=False))


@contextmanager
def mistakes_in_one_line() -> Iterator[None]:
    """A mistake of the user, or of a file, is `error: …` on standard error, and exit status 2."""
    try:
        yield
    except REFUSED as error:
        refuse(error)


def refuse(error: BaseException) -> None:
    """Print the mistake and leave with exit status 2."""
    if _voice().verbose:
        traceback.print_exception(error)
    message = " ".join(str(_named(error)).split()) or type(error).__name__
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(BAD_INPUT) from error


def _named(error: BaseException) -> BaseException:
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] in EXTRAS:
        return MissingExtraError(error.name or "")
    return error


def _voice() -> Voice:
    return VOICE.get(Voice())


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
