"""Thresholds of the claims, in one file with a date and a reason each, committed before the full size is run."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from simulations.findings.finding import Finding, Relation
from simulations.findings.measures import Measured

REGISTRY = Path(__file__).with_name("registered.toml")
CONFIRMATION = 20261129  # the seed of the full size: nothing was tuned or looked at under it,
# but for studies whose method was changed after a look at their rows: these have a later one.
LATER = {"proxy": 20261201}
_THRESHOLD = re.compile(rf"([{''.join(get_args(Relation))}]) (-?[\d.]+)(?: ± ([\d.]+))?")


class UnregisteredError(LookupError):
    """A claim has no threshold in the registry, or one that cannot be read."""


@dataclass(frozen=True)
class Threshold:
    """A relation and a number; of an equation the half-width of its band."""

    relation: Relation
    value: float
    tolerance: float


@dataclass(frozen=True)
class Amendment:
    """What of a claim was changed after it had been registered, until when it stood, and why: one thing at a time.

    threshold, wording, measured: what it was, in words; the two others are empty.
    """

    on: date
    why: str
    threshold: str = ""
    wording: str = ""
    measured: str = ""

    def __post_init__(self) -> None:
        if len(list(filter(None, (self.threshold, self.wording, self.measured)))) != 1:
            raise ValueError(f"{self}: one of threshold, wording and measured was changed")

    @property
    def was(self) -> str:
        """In words."""
        return self.threshold or (f"worded “{self.wording}”" if self.wording else f"measured {self.measured}")


@dataclass(frozen=True)
class Registered:
    """A claim's threshold as it stands, when the claim was first registered, its reason, and what was changed since."""

    on: date
    threshold: Threshold
    reason: str
    amended: tuple[Amendment, ...] = ()


def confirmation(study: str) -> int:
    """The seed under which the full size of a study confirms its claims."""
    return LATER.get(study, CONFIRMATION)


def claim(
    study: str,
    statement: str,
    source: str,
    measure: Callable[[pd.DataFrame], Measured],
    *,
    by: tuple[str, ...] = (),
    discussion: str = "",
    at_full: str = "",
) -> Finding:
    """The finding whose threshold is the registered one. Raises UnregisteredError where there is none."""
    held_to = registered(study, statement).threshold
    return Finding(
        study, statement, source, held_to.relation, held_to.value, measure, held_to.tolerance, by, discussion, at_full
    )


def registered(study: str, statement: str) -> Registered:
    """What the registry says of a claim."""
    try:
        return registry()[study, statement]
    except KeyError as error:
        raise UnregisteredError(
            f"{study}: {statement!r} has no threshold: register one in {REGISTRY.name}, with date and reason, before "
            "its full size is run"
        ) from error


@cache
def registry() -> dict[tuple[str, str], Registered]:
    """(study, statement) → what is registered, in the order of the file."""
    return read(REGISTRY.read_text(encoding="utf-8"))


def read(text: str) -> dict[tuple[str, str], Registered]:
    """A registry from its text."""
    tables = tomllib.loads(text)
    return {(study, claimed): _entry(entry) for study, table in tables.items() for claimed, entry in table.items()}


def _entry(entry: dict[str, Any]) -> Registered:
    changes = tuple(Amendment(**change) for change in entry.get("amended", ()))
    return Registered(entry["on"], parse_threshold(entry["registered"]), entry["reason"], changes)


def parse_threshold(text: str) -> Threshold:
    """From "≥ 0.95" or "= -2 ± 0.1"; a band goes with an equation, and with nothing else."""
    match = _THRESHOLD.fullmatch(text)
    if match is None or (match[1] == "=") != (match[3] is not None):
        raise UnregisteredError(f"{text!r} is no threshold: '≥ 0.95', '≤ 0.03' or '= -2 ± 0.1'")
    relation: Any = match[1]
    return Threshold(relation, float(match[2]), float(match[3] or 0.0))
