"""Optimisers as numbers, strings and lists, for a file, and back."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from trak_theory.errors import UnsupportedError
from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.optimizer.lion import Lion
from trak_theory.trajectory.optimizer.muon import Muon
from trak_theory.trajectory.optimizer.recipes import SGD, Adam, AdamW, Optimizer
from trak_theory.trajectory.optimizer.recorded import RecordedOptimizer

KINDS: dict[str, type[Optimizer]] = {kind.__name__: kind for kind in (SGD, Adam, AdamW, Muon, Lion, RecordedOptimizer)}
Plain = dict[str, Any]


def as_plain(optimizer: Optimizer, steps: int) -> Plain:
    """{kind, settings} of an optimiser; a schedule becomes its values at the first `steps` steps."""
    kind = type(optimizer)
    if KINDS.get(kind.__name__) is not kind:
        raise UnsupportedError(f"a run of {kind.__name__} cannot be saved; the optimisers are {', '.join(KINDS)}")
    settings = {field.name: getattr(optimizer, field.name) for field in fields(optimizer)}
    if optimizer.schedule is not None:
        settings["schedule"] = [optimizer.rate(t) for t in range(steps)]
    settings["groups"] = [[_place(where), _plain(dict(own))] for where, own in optimizer.groups]
    if isinstance(optimizer, RecordedOptimizer):
        settings["recipes"] = [as_plain(recipe, steps + optimizer.taken) for recipe in optimizer.recipes]
    return {"kind": kind.__name__, "settings": _plain(settings)}


def from_plain(data: Plain) -> Optimizer:
    """The optimiser that `as_plain` took apart."""
    settings = {name: _tuples(value) for name, value in data["settings"].items()}
    settings["groups"] = tuple((_coordinates(*place), _settings(own)) for place, own in data["settings"]["groups"])
    if "recipes" in settings:
        settings["recipes"] = [from_plain(recipe) for recipe in data["settings"]["recipes"]]
    return KINDS[data["kind"]](**settings)


def _settings(own: Plain) -> Plain:
    return {name: _tuples(value) for name, value in own.items()}


def _place(where: Tensor) -> list[Any]:
    """A slice or an index array of coordinates."""
    if isinstance(where, slice):
        return ["slice", [where.start, where.stop, where.step]]
    return ["indices", np.asarray(where).tolist()]


def _coordinates(kind: str, numbers: list[Any]) -> Tensor:
    return slice(*numbers) if kind == "slice" else np.array(numbers)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise UnsupportedError(
        f"the optimiser's setting {value!r} ({type(value).__name__}) cannot be saved; give a Python number"
    )


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
