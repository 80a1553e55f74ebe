"""Rules for reading stored rows: their seeds, and whether rows of other code count. Strict unless told otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


class ResultsError(Exception):
    """Stored results do not answer what was asked of them; the message says what to do."""


class NoResultsError(ResultsError, LookupError):
    """Nothing is stored for a study; the message names the command that computes it."""


class CorruptError(ResultsError, ValueError):
    """A stored file cannot be trusted."""


class StaleError(ResultsError):
    """Rows were computed by other code, or with other packages, than there are now."""


class SeedsError(ResultsError):
    """Rows of several seeds are stored, and nobody said which to take."""


@dataclass(frozen=True)
class Rules:
    """seeds: those to take, pooled where there are several; None takes the one that is there, and refuses two.

    keep_stale: take rows of other code too, and note them in `stale`, study → what is stale.
    """

    seeds: tuple[int, ...] | None = None
    keep_stale: bool = False
    stale: dict[str, str] = field(default_factory=dict)


_RULES: ContextVar[Rules | None] = ContextVar("rules", default=None)


def rules() -> Rules:
    """Those in force: of the innermost `reading`, else the strict ones."""
    return _RULES.get() or Rules()


@contextmanager
def reading(seeds: Sequence[int] | None = None, *, keep_stale: bool = False) -> Iterator[Rules]:
    """Rules for every `Store.load` inside the block; what they let through is noted in the rules."""
    chosen = Rules(None if seeds is None else tuple(seeds), keep_stale)
    token = _RULES.set(chosen)
    try:
        yield chosen
    finally:
        _RULES.reset(token)
