"""Rules for reading stored rows: their seeds and size, and whether rows of other code count. Strict unless told not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from simulations.engine.study import Size


class ResultsError(Exception):
    """Stored results do not answer what was asked of them; the message says what to do."""


class NoResultsError(ResultsError, LookupError):
    """Nothing is stored for a study; the message names the command that computes it."""


class IncompleteError(ResultsError):
    """Cells of the size that was asked for are missing."""


class CorruptError(ResultsError, ValueError):
    """A stored file cannot be trusted."""


class StaleError(ResultsError):
    """Rows were computed by other code, or with other packages, than there are now."""


class SeedsError(ResultsError):
    """Rows of several seeds are stored, and nobody said which to take."""


@dataclass(frozen=True)
class Rules:
    """seeds: those to take, pooled where there are several; None takes the one that is there, and refuses two.

    whole: take this size, and refuse a study that lacks a cell of it under one of the seeds; None takes what is there.
    keep_stale: take rows of other code too, and note them in `stale`, study → what is stale.
    """

    seeds: tuple[int, ...] | None = None
    whole: Size | None = None
    keep_stale: bool = False
    stale: dict[str, str] = field(default_factory=dict)


_RULES: ContextVar[Rules | None] = ContextVar("rules", default=None)


def rules() -> Rules:
    """Those in force: of the innermost `reading`, else the strict ones."""
    return _RULES.get() or Rules()


@contextmanager
def reading(
    seeds: Sequence[int] | None = None, *, whole: Size | None = None, keep_stale: bool = False
) -> Iterator[Rules]:
    """Rules for every `Store.load` inside the block; what they let through is noted in the rules."""
    if whole is not None and not seeds:
        raise ValueError("a whole size is one of named seeds: give them")
    chosen = Rules(None if seeds is None else tuple(seeds), whole, keep_stale)
    token = _RULES.set(chosen)
    try:
        yield chosen
    finally:
        _RULES.reset(token)
