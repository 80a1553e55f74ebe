"""Words of captions: counts with their nouns, and numbers with their errors."""

from __future__ import annotations

from collections.abc import Iterable
from math import isnan


def counted(numbers: Iterable[int], what: str) -> str:
    """`1 run`, `3 runs` or `2 to 3 runs`, given the plural."""
    there = sorted({int(number) for number in numbers})
    if there == [1]:
        return f"1 {what.removesuffix('s')}"
    return f"{' to '.join(dict.fromkeys(map(str, (there[0], there[-1]))))} {what}"


def plus_minus(mean: float, error: float, digits: int = 2) -> str:
    """`1.23 ± 0.04`; the number alone where one replicate has no error."""
    return f"{mean:.{digits}f}" + ("" if isnan(error) else f" ± {error:.{digits}f}")
