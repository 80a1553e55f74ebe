"""The format of this project: features.npz, or a folder of .npy files with the same names.

features (n, p), or projected (n, k) in the scale of E PPᵀ = I; queries (q, ·); residual (n,) = ∂ℓ/∂f. Optional:
curvature (n,), scores (n, q) in the presence sign, learning_rates (T,), parameters () = p of projected features. An
ensemble of J projections or models has features (J, n, k), queries (J, q, k), residual (n,) or (J, n).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from trak_theory.auditing.stores.archive import read_arrays
from trak_theory.auditing.stores.contents import Member, Store
from trak_theory.auditing.stores.files import read_npy
from trak_theory.auditing.stores.values import checked_rows, checked_vector
from trak_theory.errors import StoreError

REQUIRED = ("features", "queries", "residual")
OPTIONAL = ("curvature", "scores", "learning_rates", "parameters")
MARKS = ("a .npz file", "features.npy")


def matches(path: Path) -> bool:
    """An .npz file, or a folder that holds features.npy."""
    return (path.is_file() and path.suffix == ".npz") or (path / "features.npy").is_file()


def read(path: Path, scores: str | None = None) -> Store:
    """The store of a file or folder of this project's own format."""
    if scores is not None:
        raise StoreError(f"{path}: holds one set of scores at most, {scores!r} cannot be chosen")
    arrays = read_arrays(path, required=REQUIRED, optional=OPTIONAL) if path.is_file() else _folder(path)
    members, notes = _members(path, arrays)
    n, k = members[0].features.shape
    parameters = _parameters(path, arrays, k)
    projected = None if parameters is None else parameters > k
    missing = {"ridge": "--ridge: the ridge of the scores is not stored"}
    if parameters is None:
        missing["parameters"] = "--projected with --parameters, if the features are projected: p is not stored"
    return Store(
        package="trak-theory",
        path=path,
        members=members,
        scores=_scores(path, arrays, members[0], notes),
        scores_name=None,
        projected=projected,
        parameters=parameters,
        parameter="ridge",
        curvature=_vector(path, arrays, "curvature", n),
        learning_rates=_vector(path, arrays, "learning_rates", None),
        missing=missing,
        notes=tuple(notes),
    )


def _folder(path: Path) -> dict[str, Array]:
    names = {file.stem for file in path.glob("*.npy")}
    known = {*REQUIRED, *OPTIONAL}
    if lacking := sorted(set(REQUIRED) - names):
        raise StoreError(f"{path}: lacks {', '.join(f'{name}.npy' for name in lacking)}; it holds {sorted(names)}")
    if unknown := sorted(names - known):
        raise StoreError(f"{path}: unknown arrays {unknown}, known are {sorted(known)}")
    return {name: read_npy(path / f"{name}.npy") for name in sorted(names)}


def _members(path: Path, arrays: dict[str, Array]) -> tuple[tuple[Member, ...], list[str]]:
    features, queries, residual = (arrays[name] for name in REQUIRED)
    if features.ndim not in (2, 3) or queries.ndim != features.ndim:
        found = f"features {features.shape} and queries {queries.shape}"
        raise StoreError(f"{path}: {found}, expected (n, p) and (q, p), or (J, n, k) and (J, q, k)")
    stacked = features if features.ndim == 3 else features[None]
    asked = queries if queries.ndim == 3 else queries[None]
    if stacked.shape[0] != asked.shape[0] or stacked.shape[2] != asked.shape[2]:
        raise StoreError(f"{path}: queries {queries.shape} do not belong to features {features.shape}")
    notes: list[str] = []
    members = []
    for index, (rows, others) in enumerate(zip(stacked, asked, strict=True)):
        weights = residual[index] if residual.ndim == 2 and len(residual) == len(stacked) else residual
        notes += [*checked_rows(path / "features", rows, zeros=False), *checked_rows(path / "queries", others)]
        members.append(Member(str(index), rows, others, checked_vector(path / "residual", weights, len(rows))))
    return tuple(members), notes


def _parameters(path: Path, arrays: dict[str, Array], k: int) -> int | None:
    if "parameters" not in arrays:
        return None
    value = arrays["parameters"]
    if value.size != 1 or value.dtype.kind not in "iu" or int(value.ravel()[0]) < k:
        raise StoreError(f"{path / 'parameters'}: expected one integer of at least {k}, the width, found {value!r:.60}")
    return int(value.ravel()[0])


def _scores(path: Path, arrays: dict[str, Array], member: Member, notes: list[str]) -> Array | None:
    scores = arrays.get("scores")
    if scores is None or member.queries is None:
        return None
    expected = (len(member.features), len(member.queries))
    if scores.shape != expected:
        raise StoreError(f"{path / 'scores'}: shape {scores.shape}, expected (n, q) = {expected}")
    notes += checked_rows(path / "scores", scores)
    return scores


def _vector(path: Path, arrays: dict[str, Array], name: str, n: int | None) -> Array | None:
    if name not in arrays:
        return None
    values = checked_vector(path / name, arrays[name], arrays[name].size if n is None else n)
    if (values < 0).any():
        raise StoreError(f"{path / name}: must be ≥ 0, found {values.min():g} at {int(np.argmin(values))}")
    return values
