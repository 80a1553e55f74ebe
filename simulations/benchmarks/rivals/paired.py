"""Paired differences of LDS: what one method gains on another, on the same subsets and queries."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy import ndarray as Array

from simulations.benchmarks.rivals.tables import Row
from trak_theory.retraining import compare


def differences(predicted: dict[str, Array], outputs: Array) -> list[Row]:
    """LDS of each method less that of the next, with the error over subsets and queries.

    predicted (B, q) of each method, outputs (B, q) as retrained. A prediction for a subset counts as the score of a
    point that is in this subset alone: so answers that are no sums over points are compared as scores are.
    """
    alone = np.arange(len(outputs))[:, None]
    rows: list[Row] = []
    for (first, ahead), (second, behind) in pairwise(predicted.items()):
        gain = compare(ahead, behind, alone, outputs).mean
        rows.append({"LDS of": first, "less that of": second, "difference": gain.value, "s.e.": gain.se})
    return rows
