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

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from trak_theory.auditing.stores.chunks import mean_eigenvalues
from trak_theory.auditing.stores.contents import Member, Store, mean_residual
from trak_theory.auditing.stores.files import NO_CHECKSUMS, mentions, read_npy
from trak_theory.auditing.stores.packages.bergson_files import Config, Index, config_of, index_of, score_matrix
from trak_theory.auditing.stores.recovery import MISFIT, score_mismatch, tolerance
from trak_theory.auditing.stores.values import checked_rows, checked_vector
from trak_theory.errors import StoreError
from trak_theory.numerics.gram import blocked_gram
from trak_theory.numerics.rows import ChunkedRows

MARKS = ("info.json with 'grad_sizes' or 'num_scores'", "scores/info.json", "config.yaml with 'bergson_version'")
SAME = "with the model, data, loss and projection of the run"
BUILD = f"`bergson build RUN/index` {SAME}"
INDEX_MISSING = f"a run keeps no training gradients; {BUILD} adds them (RUN/checkpoint_<i>/index for several)"
TRAK = f"audit a run: `bergson trak RUN --loss_fn log_odds --projection_target global`, and {BUILD}"


@dataclass(frozen=True)
class _Damping:
    """The inverse that the queries were multiplied by: XᵀX/n + c λ̄ I, or + c I."""

    value: float | None
    absolute: bool
    note: str | None

    def units(self, features: Array | ChunkedRows, blocks: tuple[int, ...]) -> tuple[float, ...]:
        if self.value is None:
            return ()
        if self.absolute:
            return (float(len(features)),) * len(blocks)
        return mean_eigenvalues(features, blocks)


def matches(path: Path) -> bool:
    """An index, a folder of scores, a run that holds them, or one that has only begun."""
    found = _is_index(path) or _is_scores(path) or _is_scores(path / "scores") or _is_index(path / "index")
    return found or mentions(path / "config.yaml", b"bergson_version")


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
        missing={"scores": TRAK, "queries": TRAK, "law": TRAK},
        notes=(*notes, *index.notes, NO_CHECKSUMS),
    )


def _run(path: Path, folder: Path) -> Store:
    config = config_of(folder, required=folder.exists())
    scores, notes = score_matrix(folder) if folder.exists() else (None, ())
    sign = config.sign(folder) if scores is not None else 1
    if config.field("score_cfg", "score") == "nearest":
        raise StoreError(f"{folder}: one score a point, the largest over queries: score with score = individual")
    parts = _parts(path, folder)
    if scores is None and not parts:
        raise StoreError(f"{path}: neither index/ nor scores/ is there: the run of bergson is not finished, or failed")
    for part in parts:
        _check_shapes(path, part.member, scores)
        notes += part.notes
    if scores is not None and config.plain and all(part.factor is not None for part in parts):
        notes += _mismatch(path, scores, parts)
    return replace(
        _described(config, parts[0] if parts else None),
        path=path,
        method="trak" if (folder / "trak_weights.npy").exists() else config.method,
        members=tuple(part.member for part in parts),
        scores=scores if sign == 1 or scores is None else -scores,
        scores_name=folder.name,
        sign=sign,
        notes=(*notes, *config.notes, NO_CHECKSUMS),
    )


def _described(config: Config, part: _Part | None) -> Store:
    """A store with what the configuration and the index say, and no numbers yet."""
    described = Store(package="bergson", path=Path(), version=config.version, parameter="damping_factor")
    if part is None:
        single = config.field("index_cfg", "projection_target") == "global"
        return replace(described, projected=config.projected, missing={"features": INDEX_MISSING if single else TRAK})
    missing = {"law": TRAK} if part.member.queries is not None else {"law": TRAK, "queries": part.notes[-1]}
    return replace(
        described,
        projected=part.index.projected,
        parameters=None if part.index.projected else part.index.rows.shape[1],
        scale_factor=part.index.scale_factor,
        over_root_p=part.index.over_root_p,
        ridge=part.damping.value,
        blocks=part.blocks if len(part.blocks) > 1 else (),
        missing=missing,
    )


def _mismatch(path: Path, scores: Array, parts: list[_Part]) -> tuple[str, ...]:
    """Scores are features · query rows (· (1 − p)/mean |n G|) as stored: an index of another run is refused."""
    factors = [(part.member.features, part.factor) for part in parts if part.factor is not None]
    if not factors:
        return ()
    found = score_mismatch(scores, factors, mean_residual([part.member for part in parts]))
    message = f"scores differ by {found:.2g} of the largest from features times queries"
    if found > MISFIT:
        raise StoreError(f"{path}: {message}: index/ is not the run's (model, data, projection), or files are damaged")
    allowed = tolerance(str(factors[0][0].dtype), factors[0][0].shape[1])
    return () if found <= allowed else (f"{path}: {message}: damaged, or of another precision",)


@dataclass(frozen=True, eq=False)
class _Part:
    """One model of a run that has an index."""

    member: Member
    index: Index
    damping: _Damping
    blocks: tuple[int, ...]
    factor: Array | None  # query rows as stored, over trak_scale
    notes: tuple[str, ...]


def _parts(path: Path, folder: Path) -> list[_Part]:
    checkpoints = sorted(path.glob("checkpoint_*"), key=lambda sub: (len(sub.name), sub.name)) or [path]
    present = [sub for sub in checkpoints if _is_index(sub / "index")]
    if present and len(present) < len(checkpoints):
        raise StoreError(
            f"{path}: {len(present)} of {len(checkpoints)} checkpoints have an index/: build the others too"
        )
    return [_part(sub, folder) for sub in present]


def _part(path: Path, final: Path) -> _Part:
    folder = path / "index"
    index = index_of(folder)
    notes = checked_rows(folder / "gradients.bin", index.rows, zeros=False) + index.notes
    n, width = index.rows.shape
    own = path / "scores" / "trak_weights.npy"
    weights = own if own.exists() else final / "trak_weights.npy"
    residual = -checked_vector(weights, read_npy(weights), n) if weights.exists() else None
    config = config_of(path / "query") if (path / "query").exists() else Config(None, ())
    damping = _damping(config)
    blocks = index.blocks or (width,)
    stored, remarks = _stored_queries(path / "query", index)
    queries = None
    if stored is not None:
        queries, more = _raw_queries(path / "query", stored, index.rows, config, damping, blocks)
        remarks += more
    weight = 1 / _trak_scale(path)
    factor = None if stored is None else np.asarray(stored, np.float64) * weight
    member = Member(path.name, index.rows, queries, residual, units=damping.units(index.rows, blocks), weight=weight)
    return _Part(member, index, damping, blocks, factor, notes + remarks)


def _trak_scale(path: Path) -> float:
    """Mean |n G| of a model, where there is one."""
    file = path / "scores" / "trak_scale.npy"
    if not file.exists():
        return 1.0
    scale = float(read_npy(file, ())[()])
    if not 0 < scale < np.inf:
        raise StoreError(f"{file}: expected a positive number, found {scale}")
    return scale


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


def _stored_queries(folder: Path, index: Index) -> tuple[Array | None, tuple[str, ...]]:
    if not _is_index(folder):
        return None, (f"{folder}: no query index, only the training gradients were read",)
    found = index_of(folder)
    if found.sizes != index.sizes or found.settings != index.settings:
        raise StoreError(f"{folder}: projected as {found.settings}, the index as {index.settings}: rebuild one of them")
    rows = np.asarray(found.rows)
    return rows, checked_rows(folder / "gradients.bin", rows)


def _raw_queries(
    folder: Path,
    stored: Array,
    rows: Array | ChunkedRows,
    config: Config,
    damping: _Damping,
    blocks: tuple[int, ...],
) -> tuple[Array | None, tuple[str, ...]]:
    """Query gradients x*: the stored rows, or those with the inverse undone."""
    if not config.whitened:
        return stored, ()
    if damping.value is None:
        return None, (f"{folder}: {damping.note}: query gradients cannot be recovered",)
    return _unwhitened(stored, rows, damping, blocks), ()


def _unwhitened(queries: Array, rows: Array | ChunkedRows, damping: _Damping, blocks: tuple[int, ...]) -> Array:
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
