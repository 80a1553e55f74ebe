"""Gradient indices, scores and TRAK runs of bergson 2.

Layout (2.5.1)
  index   info.json (num_grads, grad_sizes, base_dtype), gradients.bin (num_grads, Σ grad_sizes), processor_config.yaml
  scores  info.json (num_rows, num_scores, dtype), scores.bin of (score_i, written_i) pairs, config.yaml
          (bergson_version, higher_is_better); TRAK adds trak_weights.npy = 1 − p
  run of `bergson trak`  query/ (an index), scores/, and the same in checkpoint_<i>/ for an ensemble
Training gradients are not kept by it: `bergson build RUN/index` (RUN/checkpoint_<i>/index) with the projection settings
of the run adds them. *.pth and *.pt are pickles and stay closed.

The query index of a run holds x*ᵀ(XᵀX/n + c λ̄ I)⁻¹, which is undone here; c = damping_factor, λ̄ the mean eigenvalue.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from trak_theory.auditing.stores.bergson_files import Config, Index, config_of, index_of, score_matrix
from trak_theory.auditing.stores.chunks import mean_eigenvalues
from trak_theory.auditing.stores.contents import Member, Store
from trak_theory.auditing.stores.files import NO_CHECKSUMS, mentions, read_npy
from trak_theory.auditing.stores.values import checked_rows, checked_vector
from trak_theory.errors import StoreError
from trak_theory.numerics.gram import blocked_gram

MARKS = ("info.json with 'grad_sizes' or 'num_scores'", "scores/info.json")
INDEX_MISSING = "`bergson build RUN/index` with the projection settings of the run: training gradients are not kept"


@dataclass(frozen=True)
class _Damping:
    """The inverse that the queries were multiplied by: XᵀX/n + c λ̄ I, or + c I."""

    value: float | None
    absolute: bool
    note: str | None

    def units(self, features: Array, blocks: tuple[int, ...]) -> tuple[float, ...]:
        if self.value is None:
            return ()
        if self.absolute:
            return (float(len(features)),) * len(blocks)
        return mean_eigenvalues(features, blocks)


def matches(path: Path) -> bool:
    """An index, a folder of scores, or a run that holds them."""
    return _is_index(path) or _is_scores(path) or _is_scores(path / "scores") or _is_index(path / "index")


def read(path: Path, scores: str | None = None) -> Store:
    """The store of an index, a folder of scores or a run."""
    if scores is not None:
        raise StoreError(f"{path}: holds one set of scores at most, {scores!r} cannot be chosen")
    if _is_index(path):
        return _index_only(path)
    return _run(path, path if _is_scores(path) else path / "scores")


def _is_index(path: Path) -> bool:
    return mentions(path / "info.json", b'"grad_sizes"')


def _is_scores(path: Path) -> bool:
    return mentions(path / "info.json", b'"num_scores"')


def _index_only(path: Path) -> Store:
    index = index_of(path)
    notes = checked_rows(path / "gradients.bin", index.rows, zeros=False)
    config = config_of(path)
    return Store(
        package="bergson",
        path=path,
        version=config.version,
        method="dot product",
        members=(Member("index", index.rows, units=()),),
        projected=index.projected,
        parameters=None if index.projected else index.rows.shape[1],
        scale_factor=index.scale_factor,
        over_root_p=index.over_root_p,
        blocks=index.blocks,
        missing={"scores": "the folder of a run that holds index/, query/ and scores/"},
        notes=(*notes, *index.notes, NO_CHECKSUMS),
    )


def _run(path: Path, folder: Path) -> Store:
    config = config_of(folder, required=folder.exists())
    checkpoints = sorted(path.glob("checkpoint_*"), key=lambda sub: (len(sub.name), sub.name))
    scores, notes = score_matrix(folder) if folder.exists() else (None, ())
    sign = config.sign(folder) if scores is not None else 1
    parts = [_part(sub, folder) for sub in checkpoints or [path]]
    present = [part for part in parts if part is not None]
    if present and len(present) < len(parts):
        raise StoreError(f"{path}: {len(present)} of {len(parts)} checkpoints have an index/: build the others too")
    if scores is None and not present:
        raise StoreError(f"{path}: neither index/ nor scores/ is there")
    for part in present:
        _check_shapes(path, part.member, scores)
        notes += part.notes
    first = present[0] if present else None
    weights = (folder / "trak_weights.npy").exists()
    return Store(
        package="bergson",
        path=path,
        version=config.version,
        method="trak" if weights else config.method,
        members=tuple(part.member for part in present),
        scores=scores if sign == 1 or scores is None else -scores,
        scores_name=folder.name,
        sign=sign,
        projected=config.projected if first is None else first.index.projected,
        parameters=first.index.rows.shape[1] if first and not first.index.projected else None,
        scale_factor=1.0 if first is None else first.index.scale_factor,
        over_root_p=False if first is None else first.index.over_root_p,
        parameter="damping_factor",
        ridge=None if first is None else first.damping.value,
        blocks=() if first is None or len(first.blocks) == 1 else first.blocks,
        missing={} if present else {"features": INDEX_MISSING},
        notes=(*notes, *config.notes, NO_CHECKSUMS),
    )


@dataclass(frozen=True, eq=False)
class _Part:
    """One model of a run that has an index."""

    member: Member
    index: Index
    damping: _Damping
    blocks: tuple[int, ...]
    notes: tuple[str, ...]


def _part(path: Path, final: Path) -> _Part | None:
    folder = path / "index"
    if not _is_index(folder):
        return None
    index = index_of(folder)
    notes = checked_rows(folder / "gradients.bin", index.rows, zeros=False) + index.notes
    n, width = index.rows.shape
    own = path / "scores" / "trak_weights.npy"
    weights = own if own.exists() else final / "trak_weights.npy"
    residual = -checked_vector(weights, read_npy(weights), n) if weights.exists() else None
    config = config_of(path / "query") if (path / "query").exists() else Config(None, ())
    damping = _damping(config)
    blocks = index.blocks or (width,)
    queries, remarks = _queries(path / "query", index, config, damping, blocks)
    member = Member(path.name, index.rows, queries, residual, units=damping.units(index.rows, blocks))
    return _Part(member, index, damping, blocks, notes + remarks)


def _damping(config: Config) -> _Damping:
    if not config.whitened:
        return _Damping(None, False, None)
    kind = config.field("inversion_cfg", "inversion") or "damped_inverse"
    value = config.field("inversion_cfg", "damping_factor")
    if kind not in ("damped_inverse", "absolute_damped_inverse") or not isinstance(value, (int, float)):
        return _Damping(None, False, f"the Hessian was inverted by {kind}, which is no ridge")
    if config.field("preprocess_cfg", "unit_normalize"):
        return _Damping(None, False, "rows were normalised: scores are cosines, not those of a ridge")
    return _Damping(float(value), kind == "absolute_damped_inverse", None)


def _queries(
    folder: Path, index: Index, config: Config, damping: _Damping, blocks: tuple[int, ...]
) -> tuple[Array | None, tuple[str, ...]]:
    if not _is_index(folder):
        return None, (f"{folder}: no query index, only the training gradients were read",)
    found = index_of(folder)
    if found.sizes != index.sizes or found.settings != index.settings:
        raise StoreError(f"{folder}: projected as {found.settings}, the index as {index.settings}: rebuild one of them")
    notes = checked_rows(folder / "gradients.bin", found.rows)
    if not config.whitened:
        return found.rows, notes
    if damping.value is None:
        return None, (*notes, f"{damping.note}: query gradients cannot be recovered")
    return _unwhitened(found.rows, index.rows, damping, blocks), notes


def _unwhitened(queries: Array, rows: Array, damping: _Damping, blocks: tuple[int, ...]) -> Array:
    """x* = (XᵀX + μI)/n · (query row), block by block."""
    result = np.empty(queries.shape)
    start = 0
    for width, unit in zip(blocks, damping.units(rows, blocks), strict=True):
        columns = slice(start, start + width)
        gram = blocked_gram(rows[:, columns])
        gram[np.diag_indices(width)] += (damping.value or 0.0) * unit
        result[:, columns] = np.asarray(queries[:, columns], np.float64) @ gram / len(rows)
        start += width
    return result


def _check_shapes(path: Path, member: Member, scores: Array | None) -> None:
    if scores is None:
        return
    n, q = scores.shape
    if len(member.features) != n or (member.queries is not None and len(member.queries) != q):
        asked = "no" if member.queries is None else len(member.queries)
        found = f"{member.name} has {len(member.features)} gradients and {asked} queries"
        raise StoreError(f"{path}: scores are {n} points by {q} queries, {found}: of another run")
