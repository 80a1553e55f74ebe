"""The audit of a recognised store: its scale, sign and unit undone, what it does not hold asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict, Unpack

import numpy as np
from numpy import ndarray as Array

from trak_theory.auditing.audit import audit
from trak_theory.auditing.inputs import Features, Queries
from trak_theory.auditing.packages import Package
from trak_theory.auditing.result import Audit
from trak_theory.auditing.stores import Store
from trak_theory.auditing.stores.contents import OTHERWISE, Member
from trak_theory.errors import StoreError
from trak_theory.numerics.rows import StoredRows
from trak_theory.retraining.ridge_rule import TrainingRecipe

OWN = "trak-theory"  # the format of this project, whose ridge belongs to the package that --package names
MISFIT = 0.5  # of rows that are no product with an inverse
SURE = 10.0  # standard errors of a recovered ridge: rounding common to all rows can exceed them tenfold


class Options(TypedDict, total=False):
    """Settings that a store does not hold; see `audit`."""

    k: int | None
    ensemble: int
    ridge: float | None
    package: str | Package
    projected: bool
    parameters: int | None
    recipe: TrainingRecipe | float | None
    fraction: float | None
    top: int | None


def audit_store(store: Store, **options: Unpack[Options]) -> Audit:
    """`audit` of what `recognise` found, with the options for what it did not."""
    _check_complete(store)
    found = _own(store, options) if store.package == OWN else _foreign(store, options)
    return replace(found, remarks=(*found.remarks, *store.notes))


def _check_complete(store: Store) -> None:
    """Refuse a store that no audit can do without, the least curable lack first, in the words of its reader."""
    if store.blocks:
        own = f"each of its {len(store.blocks)} modules has a projection or an inverse of its own, and only one for all"
        raise StoreError(f"{store.path}: {own} has a law here: {store.missing.get('law', OTHERWISE)}")
    if not store.members:
        raise StoreError(f"{store.path}: holds scores only, which an audit compares with gradients: {_lacking(store)}")
    if any(member.queries is None for member in store.members):
        raise StoreError(f"{store.path}: holds no query gradients: {_lacking(store)}")


def _lacking(store: Store) -> str:
    return store.missing.get("features") or store.missing.get("queries") or OTHERWISE


def _scale(store: Store, parameters: int | None) -> float | None:
    """Factor on the stored rows; None where it needs a p that is not known."""
    known = parameters or store.parameters
    return None if store.over_root_p and known is None else store.scale(known)


def _rows(store: Store, scale: float, projected: bool) -> tuple[Features, Queries]:
    """Rows and queries in the scale of E PPᵀ = I: mapped if projected, whole arrays of the same precision otherwise."""
    factors = [scale * _to_one_ridge(store, member) for member in store.members]
    rows = tuple(StoredRows(each.features, by) for each, by in zip(store.members, factors, strict=True))
    pairs = zip(store.members, factors, _weights(store), strict=True)
    asked = tuple(_scaled(each.queries, by * weight) for each, by, weight in pairs if each.queries is not None)
    if not projected:
        whole = [_scaled(np.asarray(each.array), each.scale) for each in rows]
        return (whole[0], asked[0]) if len(rows) == 1 else (np.stack(whole), np.stack(asked))
    return (rows[0], asked[0]) if len(rows) == 1 else (rows, asked)


def _to_one_ridge(store: Store, member: Member) -> float:
    """√(μ₀/μ_m): rows times it have the ridge of the first model, and the kernel stays what it is."""
    first, own = store.members[0].units, member.units
    return float(np.sqrt(first[0] / own[0])) if len(first) == len(own) == 1 and own[0] > 0 else 1.0


def _weights(store: Store) -> Array:
    """Of each model's kernel, of mean one: the linear factor on its queries that makes the mean the package's own."""
    weights = np.array([member.weight for member in store.members])
    return weights / weights.mean()


def _scaled(rows: Array, scale: float) -> Array:
    """Untouched and memory-mapped where there is nothing to undo; half precision becomes single."""
    return rows if scale == 1.0 else rows * np.asarray(scale, np.promote_types(rows.dtype, np.float32))


def _own(store: Store, options: Options) -> Audit:
    projected = bool(store.projected) or options.get("projected", False)
    parameters = options.get("parameters") or (store.parameters if projected else None)
    features, queries = _rows(store, 1.0, projected)
    whole: Options = {**options, "projected": projected, "parameters": parameters}
    return audit(features, queries, _residual(store), curvature=store.curvature, scores=store.scores, **whole)


def _residual(store: Store) -> Array:
    """−1 where the rows are gradients of the loss: their scores are x_iᵀGx*_j."""
    return -np.ones(store.n) if store.residual is None else store.residual


def _foreign(store: Store, options: Options) -> Audit:
    """A package's store: kernel and verdict do not depend on the scale of the rows, a recommended ridge does."""
    scale = _scale(store, options.get("parameters"))
    factor = 1.0 if scale is None else scale
    package, value, notes = _package(store, factor), options.get("ridge"), []
    if value is None:
        value = store.ridge
    if value is None and _singular(store):
        value = 0.0
        taken = f"{store.parameter} = 0, the default of {store.package}, is taken"
        notes.append(f"k = {store.k} ≥ n = {store.n}: the ridge cannot be recovered, {taken}; --ridge for another.")
    elif value is None:
        value = _ridge(store)
    projected = store.projected is not False
    features, queries = _rows(store, factor, projected)
    whole: Options = {**options, "package": package, "ridge": value, "projected": projected}
    if scale is None:
        whole["recipe"] = None
    curvature = np.ones(store.n) if store.residual is None else store.curvature
    found = audit(features, queries, _residual(store), curvature=curvature, scores=store.scores, **whole)
    if scale is None:
        how = store.missing["parameters"]
        scale_of = "γ and μ are in the scale of the stored rows"
        notes.append(f"p is not stored: {scale_of}, and no ridge is recommended ({how})")
    return replace(found, remarks=(*found.remarks, *notes))


def _package(store: Store, scale: float) -> Package:
    """The store's own ridge parameter, and what one unit of it is in the scale of E PPᵀ = I."""
    units = store.members[0].units
    unit = (units[0] if len(units) == 1 else 1.0) * scale**2
    return Package(store.package, store.parameter or "ridge", lambda p, k: unit, store.k or 1, 0.0)


def _singular(store: Store) -> bool:
    """XᵀX has no inverse, and what the package took for one tells no ridge."""
    first = store.members[0]
    n, k = first.features.shape
    return k >= n and len(first.recovered) == 1 and first.recovered[0].misfit > MISFIT


def _ridge(store: Store) -> float:
    """The package's setting that the redundancy of the store tells; refused where it tells none."""
    member = store.members[0]
    if len(member.recovered) != 1 or len(member.units) != 1:
        raise StoreError(f"{store.path}: {store.missing.get('ridge', 'the ridge is not stored: give --ridge')}")
    value, error, misfit, _ = member.recovered[0]
    if misfit > MISFIT:
        raise StoreError(f"{store.path}: the ridge cannot be recovered (misfit {misfit:.2g}): give --ridge")
    return value / member.units[0] if value > SURE * error else 0.0
