"""The source that a study's numbers rest on, as a digest: what its run function can reach by name within the project.

Followed are names, attributes of imported modules, imports inside functions, and texts that name a module of the
project (as `import_module` takes them); a name is followed through re-exports to the module that defines it, so that
`from trak_theory import ladder` rests on the ladder and not on the whole library. A module in reach adds its
statements with side effects, and those of the packages around it. Left out: docstrings, comments, layout, the
annotations of functions, and what a study says of its grids, summary and expected time: a cell's parameters are
part of its name. What cannot be followed counts whole (an attribute of unknown origin: its entire module).

Not seen: a name that is put together at run time (`getattr(module, "f" + "g")`) in a module that nothing else reaches.
A test runs studies under a profiler and finds every function that ran in the digest.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

from simulations.engine.reach import Reach
from simulations.engine.syntax import Symbol, entry_module, forget_sources

ALWAYS = {"numpy", "scipy"}
NEVER = {"matplotlib"}  # draws, and computes nothing
SEEDING = Symbol("simulations.engine.study", "Cell")  # where a cell's random numbers come from


class OtherCodeError(RuntimeError):
    """The code or the packages of a process are not those that its results would be labelled with."""


@dataclass(frozen=True)
class Code:
    """Code behind numbers: the digest of their source, and the versions of the packages that it imports."""

    source: str
    packages: dict[str, str]
    files: tuple[tuple[Path, int], ...] = field(default=(), compare=False)  # with the times of their last change

    def label(self) -> dict[str, Any]:
        return {"source": self.source, "packages": self.packages}

    def difference(self, label: dict[str, Any] | None) -> str:
        """Differences of a stored label from this code, in words; empty if there are none."""
        if label is None:
            return "computed before results named their code"
        parts = ["other source"] if label["source"] != self.source else []
        for name in sorted({*self.packages, *label["packages"]}):
            there, here = label["packages"].get(name, "none"), self.packages.get(name, "none")
            parts += [f"{name} {there}, here {here}"] if there != here else []
        return "; ".join(parts)


def code_of(run: Callable[..., Any]) -> Code:
    """The code behind a study's run function, as this process knows it: read once."""
    while isinstance(run, partial):
        run = run.func
    return _code(run.__module__, run.__qualname__.split(".")[0])


@cache
def _code(module: str, name: str) -> Code:
    entry = entry_module(module)
    if entry is None:
        raise OtherCodeError(f"no source of {module}.{name} in this process: declare studies in a module on its path")
    reached = Reach()
    reached.enter(entry, name)
    reached.follow(SEEDING)
    digest = hashlib.sha256("\n".join(sorted(reached.texts())).encode()).hexdigest()
    return Code(digest[:16], _versions(reached.packages), tuple(sorted(reached.files())))


def check_unchanged(run: Callable[..., Any]) -> None:
    """Raise OtherCodeError where the code on disk is no longer what this process read: it may have loaded either."""
    code = code_of(run)
    changed = [path for path, modified in code.files if not path.exists() or path.stat().st_mtime_ns != modified]
    if not changed:
        return
    forget_sources()
    _code.cache_clear()
    if code_of(run) != code:
        raise OtherCodeError(f"{changed[0]} changed while this process ran; start it again")


def _versions(packages: set[str]) -> dict[str, str]:
    """Versions of the distributions that provide these packages; Python's without its patch level."""
    names = {name for package in packages - NEVER | ALWAYS for name in _distributions().get(package, [])}
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python} | {name: version(name) for name in sorted(names)}


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(packages_distributions())
