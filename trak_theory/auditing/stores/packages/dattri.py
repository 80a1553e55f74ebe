"""The disk cache of dattri 0.3 (LoGra, FactGraSS): projected gradients of the loss, block by block.

Layout (0.3.0): batch_metadata.json (batch_info, layer_dims, total_samples), grad/chunk_gradients_<a>_<b>.mmap with
…_metadata.json (storage_dtype: uint16 is bfloat16; shape; layer_dims; batches), ifvp/chunk_ifvp_… : rows times the
inverse of X_bᵀX_b/n + damping · mean eigenvalue · I, block by block. precond/*.pt are pickles and stay closed.
attribute() returns its scores: save them in the folder as scores.npy, (n, q). TRAKAttributor writes nothing to disk.
"""

from __future__ import annotations

from pathlib import Path

from numpy import ndarray as Array

from trak_theory.auditing.stores.chunks import joined, mean_eigenvalues, scores_beside
from trak_theory.auditing.stores.contents import OTHERWISE, Member, RecoveredRidge, Store
from trak_theory.auditing.stores.files import (
    BFLOAT16,
    NO_CHECKSUMS,
    count,
    counts,
    dtype_named,
    entry,
    read_json,
    read_raw,
)
from trak_theory.auditing.stores.recovery import MISFIT, recovered_ridges
from trak_theory.auditing.stores.values import checked_rows
from trak_theory.errors import StoreError
from trak_theory.numerics.rows import ChunkedRows

METADATA = "batch_metadata.json"
MARKS = ("batch_metadata.json with grad/chunk_gradients_*.mmap",)
MISSING = {
    "ridge": "--ridge: damping is not stored; `recovered_ridge` is what ifvp tells",
    "queries": f"dattri stores none; {OTHERWISE}",
}


def matches(path: Path) -> bool:
    """A cache folder with its metadata."""
    return (path / METADATA).is_file()


def read(path: Path, scores: str | None = None) -> Store:
    """The store of a cache folder; `scores.npy` in it is taken as what attribute() returned."""
    if scores is not None:
        raise StoreError(f"{path}: holds one set of scores at most, {scores!r} cannot be chosen")
    file, content = path / METADATA, read_json(path / METADATA)
    blocks, n = counts(file, content, "layer_dims", 0), count(file, content, "total_samples")
    batches = _batch_sizes(file, content, n)
    features = _rows(path / "grad", "gradients", batches, blocks)
    notes = checked_rows(path / "grad", features, zeros=False)
    preconditioned: Array | ChunkedRows | None = None
    recovered: tuple[RecoveredRidge, ...] = ()
    if (path / "ifvp").is_dir() and any((path / "ifvp").iterdir()):
        preconditioned = _rows(path / "ifvp", "ifvp", batches, blocks)
        notes += checked_rows(path / "ifvp", preconditioned)
        recovered = recovered_ridges(features, preconditioned, tuple(width for width in blocks if width))
        if max(ridge.misfit for ridge in recovered) > MISFIT:
            notes += (f"{path}: ifvp is not grad times an inverse: of another run, or damaged",)
    scores_found, missing = scores_beside(path, n)
    blocks = tuple(width for width in blocks if width)
    units = mean_eigenvalues(features, blocks)
    member = Member("0", features, preconditioned=preconditioned, units=units, recovered=recovered)
    return Store(
        package="dattri",
        path=path,
        method="influence",
        members=(member,),
        scores=scores_found,
        parameter="damping",
        blocks=blocks,
        missing={**MISSING, **missing},
        notes=(*notes, "rows are gradients of the loss through Kronecker products of projections", NO_CHECKSUMS),
    )


def _batch_sizes(file: Path, content: dict[str, object], n: int) -> list[int]:
    batches = entry(file, content, "batch_info", dict)
    sizes = [count(file, batches.get(str(index)), "sample_count") for index in range(len(batches))]
    if sum(sizes) != n:
        raise StoreError(f"{file}: batches hold {sum(sizes)} points, 'total_samples' says {n}")
    return sizes


def _rows(folder: Path, kind: str, batches: list[int], blocks: tuple[int, ...]) -> Array | ChunkedRows:
    """All chunks in the order of their batches."""
    files = sorted(folder.glob(f"chunk_{kind}_*_metadata.json"), key=_first_batch)
    parts, names, batch = [], set(), 0
    for file in files:
        content = read_json(file)
        indices = [count(file, info, "batch_idx", 0) for info in entry(file, content, "batches", list)]
        if not indices or indices != list(range(batch, batch + len(indices))) or indices[-1] >= len(batches):
            found = f"batches {indices[:3]}…, expected those from {batch} on"
            raise StoreError(f"{file}: {found}: a chunk is missing or there twice")
        part, name = _chunk(file, content, sum(batches[index] for index in indices), blocks)
        parts.append(part)
        names.add(name)
        batch += len(indices)
    if batch < len(batches):
        raise StoreError(f"{folder}: {batch} of {len(batches)} batches are there: half-written, run cache() again")
    if len(names) > 1:
        raise StoreError(f"{folder}: chunks of different dtypes: of two runs, run cache() again")
    return joined(parts, names.pop())


def _first_batch(file: Path) -> int:
    words = file.name.split("_")
    if len(words) != 5 or not words[2].isdigit():
        raise StoreError(f"{file}: expected a name chunk_<kind>_<first>_<last>_metadata.json")
    return int(words[2])


def _chunk(file: Path, content: dict[str, object], rows: int, blocks: tuple[int, ...]) -> tuple[Array, str]:
    """Rows as stored, and the name of their numbers."""
    stem = file.name.removesuffix("_metadata.json")
    if entry(file, content, "chunk_filename", str) != stem:
        raise StoreError(f"{file}: speaks of {content['chunk_filename']!r:.60}, expected {stem}")
    if counts(file, content, "layer_dims", 0) != blocks or counts(file, content, "shape") != (rows, sum(blocks)):
        expected = f"shape {(rows, sum(blocks))} of layers {blocks}"
        raise StoreError(f"{file}: shape {content['shape']} of layers {content['layer_dims']}, expected {expected}")
    stored = entry(file, content, "storage_dtype", str)
    name = BFLOAT16 if stored == "uint16" else stored
    return read_raw(file.with_name(f"{stem}.mmap"), dtype_named(file, name), (rows, sum(blocks))), name
