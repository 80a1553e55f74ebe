"""What an audit reads, checked; large feature matrices are left where they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray as Array

from trak_theory.numerics.checks import non_negative, positive_count, real_array


@dataclass(frozen=True, eq=False)
class AuditData:
    """Checked input of an audit; features and queries stay as they came (memory-mapped, single precision)."""

    features: Array
    queries: Array
    residual: Array
    curvature: Array
    scores: Array | None
    parameters: int
    notes: tuple[str, ...]

    @staticmethod
    def checked(
        features: Any,
        queries: Any,
        residual: Any,
        curvature: Any,
        scores: Any,
        projected: bool,
        parameters: int | None,
    ) -> AuditData:
        features, queries = _matrix("features", features), _matrix("queries", queries)
        n, p = features.shape
        if queries.shape[1] != p:
            raise ValueError(f"queries have width {queries.shape[1]}, the features have width {p}")
        residual = _vector("residual", residual, n)
        notes: tuple[str, ...] = ()
        if curvature is None:
            size = np.abs(residual)
            if size.max() > 1:
                raise ValueError(f"residuals reach {size.max():.3g}: not of a logistic margin; give the curvature too")
            curvature = size * (1 - size)
            notes = ("no curvature given: |r|(1 − |r|) is taken, which is exact for a logistic loss of a margin",)
        curvature = non_negative("curvature", _vector("curvature", curvature, n))
        if scores is not None:
            scores = real_array("scores", scores, 2)
            if scores.shape != (n, len(queries)):
                raise ValueError(f"scores have shape {scores.shape}, expected (n, q) = {(n, len(queries))}")
        if projected and parameters is not None and positive_count("parameters", parameters) < p:
            raise ValueError(f"parameters = {parameters} is fewer than the {p} projected dimensions")
        width = p if parameters is None or not projected else parameters
        return AuditData(features, queries, residual, curvature, scores, width, notes)


def _matrix(name: str, value: Any) -> Array:
    """A finite real matrix, left as it is (memory-mapped, single precision): its blocks are converted when used."""
    array = value if isinstance(value, np.ndarray) else np.asarray(value)
    if array.dtype.kind not in "biuf" or array.ndim != 2 or array.size == 0:
        return real_array(name, array, 2)  # which says what is wrong
    step = max(1, 2**24 // array.shape[1])
    for start in range(0, len(array), step):
        if not np.isfinite(array[start : start + step]).all():
            row = start + int(np.argmax(~np.isfinite(array[start : start + step]).all(1)))
            raise ValueError(f"{name} has non-finite entries (NaN or inf), the first in row {row}")
    return array


def _vector(name: str, value: Any, n: int) -> Array:
    array = real_array(name, value, 1)
    if array.shape != (n,):
        raise ValueError(f"{name} has {array.size} values for n = {n} points")
    return array
