"""Derivations by machine, one a file. Each gives a `Derivation`; `derivations()` is all of them, in reading order."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from trak_theory.errors import require

if TYPE_CHECKING:
    from trak_theory.symbolic.derivation import Derivation

require("sympy")

NAMES = ("losses", "leave_one_out_series", "chain", "projection", "isotropic", "two_layer", "adamw")


def derivations() -> dict[str, Derivation]:
    """Name → derivation."""
    return {name: import_module(f"trak_theory.symbolic.{name}").derivation() for name in NAMES}
