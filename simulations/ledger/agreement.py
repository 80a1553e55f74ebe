"""Whether rows of one cell that were computed twice are the same but for rounding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from simulations.engine.study import Rows

LAST_DIGITS = 1e-3  # relative to the largest entry of a column: other processors round otherwise
ALLOWANCES = {"relative_radius": 0.1, "truth_radius": 0.1}  # columns that measure rounding itself
NOUGHT = 1e-15  # of quantities of order one, which vanish in exact arithmetic
OF_STANDARD_ERRORS = 0.1  # a few signs of influences that vanish but for rounding move these by some per cent


def differing(there: Rows, here: Rows) -> list[str]:
    """The columns in which rows of one cell, computed twice, are not the same but for rounding."""
    if len(there) != len(here):
        return ["number of rows"]
    columns = dict.fromkeys(name for row in [*there, *here] for name in row)
    values = {name: ([r.get(name) for r in there], [r.get(name) for r in here]) for name in columns}
    return [name for name in columns if not _agree(*values[name], _allowance(name))]


def _allowance(column: str) -> float:
    return OF_STANDARD_ERRORS if column.endswith("_se") else ALLOWANCES.get(column, LAST_DIGITS)


def _agree(there: list[Any], here: list[Any], margin: float) -> bool:
    scale = float(
        np.max(np.abs([value for value in there if isinstance(value, float) and math.isfinite(value)]), initial=0)
    )
    return all(_same(first, second, max(margin * scale, NOUGHT)) for first, second in zip(there, here, strict=True))


def _same(there: Any, here: Any, margin: float) -> bool:
    if isinstance(there, float) and isinstance(here, float | np.floating):
        first, second = float(there), float(here)
        return abs(first - second) <= margin or first == second or (math.isnan(first) and math.isnan(second))
    return bool(there == here)
