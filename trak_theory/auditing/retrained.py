"""Scores against retrained outputs, where a user has some: what no kernel can stand in for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from trak_theory.auditing.measures import Row
from trak_theory.auditing.result import Audit
from trak_theory.auditing.stores.archive import read_arrays
from trak_theory.auditing.verdict import Verdict
from trak_theory.retraining import Lds, lds

PADDING = -1
WORTHLESS = 0.1  # LDS that the 95 % interval must reach
OPEN = "too few to exclude an LDS of 0"


@dataclass(frozen=True, eq=False)
class Retrained:
    """Outputs f (B, q) of the model trained on each of B subsets, and of R more trainings (R, B, q) if there are any.

    Outputs are what the scores speak of (the margin of a classifier): larger where a helpful point was trained on.
    """

    subsets: list[Array]
    outputs: Array
    replicates: Array | None = None


def read_retrained(path: Path) -> Retrained:
    """From an .npz file: subsets (B, m) of indices, filled up with −1, or a mask (B, n); outputs; replicates."""
    arrays = read_arrays(path, required=("subsets", "outputs"), optional=("replicates",))
    return Retrained(subset_rows(arrays["subsets"]), arrays["outputs"], arrays.get("replicates"))


def subset_rows(subsets: Array) -> list[Array]:
    """Index arrays from padded rows or from a mask."""
    if subsets.ndim != 2:
        raise ValueError(f"subsets must have 2 axes, got shape {subsets.shape}")
    if subsets.dtype == bool:
        return [np.flatnonzero(row) for row in subsets]
    return [row[row != PADDING] for row in subsets]


def against_retraining(found: Audit, retrained: Retrained) -> Audit:
    """The audit with the LDS of its scores: of the given ones, or else of those that the features imply.

    An LDS whose 95 % interval ends below .1 withdraws trust, whatever the law says; a large one does not restore it:
    the seed may still decide the order. An interval that reaches both 0 and .1 is said to come from too few subsets.
    """
    scores = found.mean if found.scores is None else found.scores
    if scores is None:
        raise ValueError("outputs were given, but no scores, and the features imply none at this k and ridge")
    measured = lds(scores, retrained.subsets, retrained.outputs, replicates=retrained.replicates)
    if not np.isfinite(measured.mean):
        reason = next(iter(measured.undefined.values()), "too few subsets")
        raise ValueError(f"outputs give no LDS: {reason}")
    return replace(
        found,
        verdict=_verdict(found.verdict, measured),
        retrained=_row(measured, len(retrained.subsets)),
        remarks=(*found.remarks, *measured.warnings),
    )


def _verdict(verdict: Verdict, measured: Lds) -> Verdict:
    low, high = measured.interval()
    undecided = f" ({OPEN})" if low <= 0 and high >= WORTHLESS else ""
    sentence = f"Against {measured.estimate.subsets} retrained models{undecided}: {_words(measured)}."
    if verdict.trust and high < WORTHLESS:
        return Verdict(False, f"Do not trust the order: retraining does not show it. {sentence}")
    return Verdict(verdict.trust, f"{verdict.sentence} {sentence}")


def _words(measured: Lds) -> str:
    """LDS .31 ± .02, where training noise allows .80 ± .01."""
    words = f"LDS {_short(measured.mean)} ± {_short(measured.se)}"
    if measured.noise_ceiling is not None:
        ceiling = measured.noise_ceiling
        return f"{words}, where training noise allows {_short(ceiling.value)} ± {_short(ceiling.se)}"
    if measured.additive_ceiling is not None:
        ceiling = measured.additive_ceiling
        return f"{words}, where sums over points reach {_short(ceiling.value)} ± {_short(ceiling.se)} at most"
    return words


def _short(number: float) -> str:
    return f"{number:.2f}".replace("0.", ".", 1).replace("-", "−")


def _row(measured: Lds, subsets: int) -> Row:
    low, high = measured.interval()
    row: Row = {
        "LDS": measured.mean.value,
        "s.e.": measured.se,
        "95 % from": low,
        "to": high,
        "subsets": subsets,
        "queries": measured.estimate.queries,
    }
    for name in ("noise_ceiling", "corrected", "additive_ceiling"):
        value = getattr(measured, name)
        if value is not None:
            row |= {name: value.value, f"{name} s.e.": value.se}
    return row
