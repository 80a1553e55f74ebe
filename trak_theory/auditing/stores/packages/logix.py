"""The logs of LogIX 0.1: gradients of the loss, sample by sample.

Layout (0.1.1): log_rank_<r>_chunk_<c>.mmap with …_metadata.json, a list with data_id, path (module, "grad"), offset,
shape, block_size and dtype of every sample; config.yaml. state/*.pt and lora/*.pt are pickles and stay closed. With
LoRA the rows are coordinates in Kronecker products of two projections, block by block. compute_influence_all returns
its scores: save them, turned to (n, q), in the folder as scores.npy.
"""

from __future__ import annotations

import re
from math import prod
from pathlib import Path
from typing import NamedTuple

from numpy import ndarray as Array

from trak_theory.auditing.stores.chunks import joined, scores_beside
from trak_theory.auditing.stores.contents import OTHERWISE, Member, Store
from trak_theory.auditing.stores.files import (
    NO_CHECKSUMS,
    count,
    counts,
    dtype_named,
    entry,
    read_json,
    read_raw,
)
from trak_theory.auditing.stores.values import checked_rows
from trak_theory.errors import StoreError

MARKS = ("log_rank_<r>_chunk_<c>.mmap",)
NAME = re.compile(r"log_rank_(\d+)_chunk_(\d+)\.mmap")
MISSING = {
    "ridge": "--ridge: the damping of compute_influence is not stored",
    "queries": f"LogIX logs none; {OTHERWISE}",
}


def matches(path: Path) -> bool:
    """A folder with a chunk of logs."""
    return any(path.glob("log_rank_*_chunk_*"))


def read(path: Path, scores: str | None = None) -> Store:
    """The store of a log folder; `scores.npy` in it is taken as the influence of compute_influence_all."""
    if scores is not None:
        raise StoreError(f"{path}: holds one set of scores at most, {scores!r} cannot be chosen")
    parts, samples, layout, numbers = [], [], None, ""
    for file in _chunks(path):
        metadata = file.with_name(f"{file.stem}_metadata.json")
        chunk = _chunk(file, metadata)
        if layout not in (None, chunk.modules) or numbers not in ("", chunk.numbers):
            found, expected = f"{chunk.modules} in {chunk.numbers}", f"{layout} in {numbers}"
            raise StoreError(f"{metadata}: modules {found}, expected {expected}: chunks of two different runs")
        layout, numbers = chunk.modules, chunk.numbers
        samples += chunk.samples
        parts.append(chunk.rows)
    if layout is None or len(set(samples)) < len(samples):
        raise StoreError(f"{path}: {len(samples) - len(set(samples))} samples are logged twice: log one epoch only")
    features = joined(parts, numbers)
    notes = checked_rows(path, features, zeros=False)
    if samples != [str(index) for index in range(len(samples))]:
        notes += ("rows are in the order of logging: data ids are no indices 0, 1, …, match them with your data",)
    lora = any("logix_lora" in name for name, _ in layout)
    scores_found, missing = scores_beside(path, len(features))
    return Store(
        package="logix",
        path=path,
        method="influence",
        members=(Member("0", features, units=()),),
        scores=scores_found,
        projected=lora,
        parameters=None if lora else features.shape[1],
        parameter="damping",
        blocks=tuple(width for _, width in layout),
        missing={**MISSING, **missing},
        notes=(*notes, "rows are gradients of the loss", NO_CHECKSUMS),
    )


def _chunks(path: Path) -> list[Path]:
    """Chunk files in the order of rank and chunk, none missing in a rank."""
    numbered = {}
    for file in path.glob("log_rank_*_chunk_*.mmap"):
        if (match := NAME.fullmatch(file.name)) is None:
            raise StoreError(f"{file}: expected a name log_rank_<r>_chunk_<c>.mmap")
        numbered[int(match[1]), int(match[2])] = file
    for rank, chunk in numbered:
        if chunk and (rank, chunk - 1) not in numbered:
            raise StoreError(f"{path}: chunk {chunk - 1} of rank {rank} is missing")
    for file in path.glob("log_rank_*_chunk_*_metadata.json"):
        if not (mapped := file.with_name(file.name.replace("_metadata.json", ".mmap"))).exists():
            raise StoreError(f"{mapped}: no such file, but its metadata is there: half-written")
    return [numbered[key] for key in sorted(numbered)]


class _Chunk(NamedTuple):
    """Modules with their widths, data ids, the name of the stored numbers, and the rows of one file."""

    modules: tuple[tuple[str, int], ...]
    samples: list[str]
    numbers: str
    rows: Array


def _chunk(file: Path, metadata: Path) -> _Chunk:
    samples = read_json(metadata, list)
    if not samples:
        raise StoreError(f"{metadata}: no samples: half-written")
    modules, name = _modules(metadata, samples[0]), entry(metadata, samples[0], "dtype", str)
    dtype, width = dtype_named(metadata, name), sum(width for _, width in modules)
    for index, sample in enumerate(samples):
        same = _modules(metadata, sample) == modules and sample.get("dtype") == name
        if not same or count(metadata, sample, "offset", 0) != index * width * dtype.itemsize:
            raise StoreError(f"{metadata}: sample {index} differs from sample 0 in modules, dtype or place")
    names = [entry(metadata, sample, "data_id", str) for sample in samples]
    return _Chunk(modules, names, name, read_raw(file, dtype, (len(samples), width)))


def _modules(metadata: Path, sample: object) -> tuple[tuple[str, int], ...]:
    paths, shapes = entry(metadata, sample, "path", list), entry(metadata, sample, "shape", list)
    names = [str(path[0]) if isinstance(path, list) and len(path) == 2 and path[1] == "grad" else "" for path in paths]
    widths = [prod(counts(metadata, {"shape": shape}, "shape")) for shape in shapes]
    if not names or "" in names or len(names) != len(widths):
        found = f"{paths!r:.60} with {shapes!r:.60}"
        raise StoreError(f"{metadata}: expected (module, 'grad') with a shape each, found {found}")
    return tuple(zip(names, widths, strict=True))
