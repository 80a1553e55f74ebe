"""Input of an audit, checked; large feature matrices are left where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike

from trak_theory.auditing.stores.values import LARGEST, SMALLEST
from trak_theory.numerics.checks import non_negative, positive_count, real_array
from trak_theory.numerics.rows import ChunkedRows, StoredRows

BLOCK = 2**24  # entries looked at together
Features = ArrayLike | StoredRows | Sequence[StoredRows]
Queries = ArrayLike | Sequence[Array]
DOUBLE, SINGLE = (float(np.finfo(dtype).eps) for dtype in (np.float64, np.float32))


@dataclass(frozen=True, eq=False)
class AuditData:
    """Checked input of an audit; features and queries stay as they came (memory-mapped, single precision).

    members      (features, queries) of every projection that is given; one unless the features are projected. Rows of
                 a store may come as StoredRows, which are read in blocks
    parameters   p; None where projected features do not show it
    informative  (q,) queries whose gradient is not zero
    epsilon      relative rounding of the coarsest of features and scores
    """

    members: tuple[tuple[Array | StoredRows, Array], ...]
    residual: Array
    curvature: Array
    scores: Array | None
    parameters: int | None
    informative: Array
    epsilon: float
    notes: tuple[str, ...]

    @property
    def features(self) -> Array | StoredRows:
        return self.members[0][0]

    @property
    def queries(self) -> Array:
        """(q′, p) of the queries with a gradient."""
        return self.members[0][1][self.informative]

    @property
    def informative_scores(self) -> Array | None:
        return None if self.scores is None else self.scores[:, self.informative]

    def arithmetic(self, package: str) -> float:
        """Relative rounding of the Gram matrix behind the scores: single precision unless all is stored in double."""
        return SINGLE if package != "none" or self.epsilon >= SINGLE else self.epsilon

    @staticmethod
    def checked(
        features: Features,
        queries: Queries,
        residual: ArrayLike,
        curvature: ArrayLike | None,
        scores: ArrayLike | None,
        projected: bool,
        parameters: int | None,
    ) -> AuditData:
        members = _members(features, queries, projected)
        first, asked = members[0]
        n, p = first.shape
        epsilon = max(_epsilon(first), _epsilon(scores))
        residual, notes = _residual(residual, n), []
        if curvature is None:
            size = np.abs(residual)
            if size.max() > 1:
                raise ValueError(f"residuals reach {size.max():.3g}: not of a logistic margin; give the curvature too")
            curvature = size * (1 - size)
            notes.append("No curvature given: |r|(1 − |r|) is taken, which is exact for a logistic loss of a margin.")
        curvature = non_negative("curvature", _vector("curvature", curvature, n))
        if scores is not None:
            scores = real_array("scores", scores, 2)
            if scores.shape != (n, len(asked)):
                raise ValueError(f"scores have shape {scores.shape}, expected (n, q) = {(n, len(asked))}")
            _check_size("scores", max(float(scores.max()), -float(scores.min())))
        if projected and parameters is not None and positive_count("parameters", parameters) < p:
            raise ValueError(f"parameters = {parameters} is fewer than the {p} projected dimensions")
        informative = np.all([np.asarray(rows).any(axis=1) for _, rows in members], axis=0)
        if not informative.any():
            raise ValueError("all query gradients are zero: no score says anything")
        if not informative.all():
            notes.append(f"{_named('Query', ~informative)} zero gradient: left out, all scores are 0.")
        known = parameters if projected else p
        return AuditData(members, residual, curvature, scores, known, informative, epsilon, tuple(notes))


def _named(kind: str, chosen: Array) -> str:
    """'Query 3 has a' or 'Queries 3, 7 have a'."""
    entries = np.flatnonzero(chosen)
    shown = ", ".join(map(str, entries[:5])) + (f" and {entries.size - 5} more" if entries.size > 5 else "")
    return f"{kind} {shown} has a" if entries.size == 1 else f"{kind[:-1]}ies {shown} have a"


def _members(features: Features, queries: Queries, projected: bool) -> tuple[tuple[Array | StoredRows, Array], ...]:
    """The projections one by one: (J, n, k) and (J, q, k), arrays or tuples, or a single (n, p) and (q, p)."""
    members = tuple((_rows(rows), _matrix("queries", asked)) for rows, asked in _pairs(features, queries, projected))
    for rows, asked in members:
        if asked.shape[1] != rows.shape[1]:
            raise ValueError(f"queries have width {asked.shape[1]}, the features have width {rows.shape[1]}")
    return members


def _pairs(features: Features, queries: Queries, projected: bool) -> list[tuple[ArrayLike | StoredRows, ArrayLike]]:
    several = isinstance(features, tuple) and isinstance(features[0], StoredRows)
    if not projected or not (
        several or (not isinstance(features, StoredRows) and np.ndim(cast(ArrayLike, features)) == 3)
    ):
        return [(cast(ArrayLike | StoredRows, features), cast(ArrayLike, queries))]
    rows, asked = (value if isinstance(value, tuple) else np.asarray(value) for value in (features, queries))
    if len(rows) != len(asked):
        raise ValueError(f"features hold {len(rows)} projections, queries {len(asked)}")
    return list(zip(rows, asked, strict=True))


def _residual(value: ArrayLike, n: int) -> Array:
    residual = _vector("residual", value, n)
    if not residual.any():
        raise ValueError("all residuals are 0: every score is 0")
    _check_size("residuals", float(np.abs(residual).max()))
    return residual


def _epsilon(array: ArrayLike | StoredRows | None) -> float:
    if isinstance(array, StoredRows) and isinstance(array.array, ChunkedRows):
        return array.array.epsilon
    dtype = getattr(array, "dtype", None)
    return float(np.finfo(dtype).eps) if dtype is not None and dtype.kind == "f" else DOUBLE


def _rows(value: ArrayLike | StoredRows) -> Array | StoredRows:
    if not isinstance(value, StoredRows):
        return _matrix("features", value)
    _check_matrix("features", value.array)
    return value


def _matrix(name: str, value: ArrayLike) -> Array:
    """A finite real matrix, left as it is (memory-mapped, single precision): its blocks are converted when used."""
    array = value if isinstance(value, np.ndarray) else np.asarray(value)
    _check_matrix(name, array)
    return array


def _check_matrix(name: str, array: Array | ChunkedRows) -> None:
    if array.dtype.kind not in "biuf" or array.ndim != 2 or array.size == 0:
        real_array(name, array, 2)  # which says what is wrong
    step, largest = max(1, BLOCK // array.shape[1]), 0.0
    for start in range(0, len(array), step):
        block = np.asarray(array[start : start + step])
        if not np.isfinite(block).all():
            row = start + int(np.argmax(~np.isfinite(block).all(1)))
            raise ValueError(f"{name} has non-finite entries (NaN or inf), the first in row {row}")
        largest = max(largest, float(np.abs(block).max()))
    _check_size(name, largest)


def _check_size(name: str, largest: float) -> None:
    if largest and not SMALLEST < largest < LARGEST:
        raise ValueError(f"{name} reach {largest:.3g}: their powers leave the range of floating point; rescale them")


def _vector(name: str, value: ArrayLike, n: int) -> Array:
    array = real_array(name, value, 1)
    if array.shape != (n,):
        raise ValueError(f"{name} has {array.size} values for n = {n} points")
    return array
