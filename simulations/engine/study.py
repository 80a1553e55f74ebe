"""A study is data: a pure function, the grids of plain parameters it runs on, and one line saying what for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from pkgutil import walk_packages
from types import ModuleType
from typing import Any, Literal

from numpy.random import Generator, SeedSequence, default_rng

from simulations import studies

Params = Mapping[str, str | int | float | bool]
Rows = list[dict[str, Any]]
Run = Callable[[Params, Generator], Rows]
Size = Literal["quick", "full"]
Extra = Literal["torch"]
EXTRAS: dict[Extra, tuple[str, ...]] = {
    "torch": ("torch", "transformers", "peft", "gguf", "mlxtend")
}  # the modules to import


class UnknownStudyError(LookupError):
    """No module of that name declares a study."""


@dataclass(frozen=True)
class Cell:
    """One run of a study. What it is decides its name in the store and its random numbers, and nothing else does."""

    study: str
    params: Params
    seed: int

    @cached_property
    def identity(self) -> str:
        return canonical({"study": self.study, "params": self.params, "seed": self.seed})

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(self.identity.encode()).hexdigest()

    @property
    def key(self) -> str:
        return self._digest[:32]

    def rng(self) -> Generator:
        return default_rng(SeedSequence(int(self._digest, 16)))


@dataclass(frozen=True)
class Study:
    """A simulation study.

    name         that of the module below `simulations.studies` that declares it as STUDY
    summary      one line: the claim it tests, or the question it answers
    run          (params, rng) → tidy rows; pure: all randomness from rng, no files
    quick, full  grids: the parameters of each cell, replicates included. Keep quick a part of full, so that the
                 full size continues where the quick one stopped
    seconds      what a cell takes on one core, roughly: one number, or a function of its parameters. It orders the
                 cells and is the base of the time that a run announces; results do not depend on it
    extra        the optional extra of this project without which it cannot run, None where there is none
    """

    name: str
    summary: str
    run: Run
    quick: Sequence[Params]
    full: Sequence[Params]
    seconds: float | Callable[[Params], float] = 1.0
    extra: Extra | None = None

    def __post_init__(self) -> None:
        for size, grid in (("quick", self.quick), ("full", self.full)):
            if not grid:
                raise ValueError(f"study {self.name!r}: the {size} grid is empty")
            seen: set[str] = set()
            for params in grid:
                _check_plain(self.name, params)
                if canonical(params) in seen:
                    raise ValueError(f"study {self.name!r}: the {size} grid holds {dict(params)} twice")
                seen.add(canonical(params))

    def duration(self, params: Params) -> float:
        """Expected seconds of a cell on one core."""
        return self.seconds(params) if callable(self.seconds) else self.seconds

    def lacking(self) -> str:
        """Packages to install before it can run, in words; empty if none."""
        missing = [name for name in EXTRAS[self.extra] if find_spec(name) is None] if self.extra else []
        if not missing:
            return ""
        return f"needs {', '.join(missing)}, not installed here: pip install 'trak-theory[{self.extra}]'"

    def cells(self, size: Size, seed: int) -> list[Cell]:
        return [Cell(self.name, params, seed) for params in (self.quick if size == "quick" else self.full)]

    def places(self, size: Size = "full") -> dict[str, int]:
        """Canonical parameters → place in the grids, quick before full: the order of loaded rows."""
        cells = self.quick if size == "quick" else [*self.quick, *self.full]
        names = dict.fromkeys(map(canonical, cells))
        return {name: place for place, name in enumerate(names)}


def grid(**axes: Iterable[Any]) -> list[Params]:
    """All combinations of the axes, the last one fastest."""
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


@cache
def study_modules() -> dict[str, str]:
    """Name of each study → dotted name of the module that declares it. Imports none of them."""
    found = walk_packages(studies.__path__, f"{studies.__name__}.")
    modules = sorted((module.name.rpartition(".")[2], module.name) for module in found if not module.ispkg)
    return dict(modules)


def module_of(name: str) -> ModuleType:
    """The module that declares the study of that name."""
    return import_module(study_modules()[name])


def find_study(name: str) -> Study:
    """The study of that name. Imports its module only."""
    if name not in study_modules():
        raise UnknownStudyError(f"unknown study {name!r}: choose one of {list(study_modules())}")
    return _declared(name)


def all_studies() -> list[Study]:
    return [_declared(name) for name in study_modules()]


def _declared(name: str) -> Study:
    study = getattr(module_of(name), "STUDY", None)
    if not isinstance(study, Study):
        raise ValueError(f"{study_modules()[name]} declares no STUDY")
    if study.name != name:
        raise ValueError(f"{study_modules()[name]} declares a study named {study.name!r}; the two must agree")
    return study


def canonical(value: Any) -> str:
    """One text for one value, whatever the order of its keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _check_plain(study: str, params: Params) -> None:
    if "seed" in params:
        raise ValueError(f"study {study!r}: a parameter cannot be named 'seed', as the seed of the run is")
    for name, value in params.items():
        if type(value) not in (str, int, float, bool):
            raise TypeError(
                f"study {study!r}: parameter {name} = {value!r} is a {type(value).__name__}; parameters are plain "
                "str, int, float or bool, so that they can name a file and become a column"
            )
