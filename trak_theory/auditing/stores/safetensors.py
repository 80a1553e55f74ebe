"""Tensors of a .safetensors file, memory-mapped, with the header held against the file."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from trak_theory.auditing.stores.files import BFLOAT16, counts, decoded, dtype_named, entry, file_size, reading
from trak_theory.errors import StoreError

LENGTH = 8  # bytes of the header's length
LARGEST_HEADER = 100_000_000  # bytes, the format's own limit
DTYPES = {"F16": "float16", "F32": "float32", "F64": "float64", "BF16": BFLOAT16}


def read_safetensors(path: Path) -> tuple[dict[str, Array], dict[str, object]]:
    """Tensors by name, and the file's own metadata.

    The offsets must tile the file: no gap, no overlap, nothing after the last tensor.
    """
    with reading(path):
        header, start = _header(path)
        metadata = header.pop("__metadata__", {})
        spans = {name: counts(path, value, "data_offsets", 0) for name, value in header.items()}
        _check_tiling(path, list(spans.values()), file_size(path) - start)
        return {name: _tensor(path, value, start, spans[name]) for name, value in header.items()}, metadata


def _header(path: Path) -> tuple[dict[str, dict[str, object]], int]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH), "little")
        if not 2 <= length <= min(LARGEST_HEADER, file_size(path) - LENGTH):
            raise StoreError(f"{path}: a header of {length} bytes in a file of {file_size(path)}: truncated or damaged")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise StoreError(f"{path}: expected a JSON object as header, found {type(header).__name__}")
    return header, LENGTH + length


def _check_tiling(path: Path, spans: list[tuple[int, ...]], size: int) -> None:
    end = 0
    for span in sorted(spans):
        if len(span) != 2 or span[0] != end or span[1] <= span[0]:
            raise StoreError(f"{path}: tensor at bytes {span}, expected one that begins at {end}: damaged header")
        end = span[1]
    if end != size:
        raise StoreError(f"{path}: {size} bytes of tensors, expected {end}: truncated, or not what its header says")


def _tensor(path: Path, value: object, start: int, span: tuple[int, ...]) -> Array:
    shape, letters = counts(path, value, "shape"), entry(path, value, "dtype", str)
    name = DTYPES.get(letters, letters)
    dtype = dtype_named(path, name)
    size, expected = span[1] - span[0], prod(shape) * dtype.itemsize
    if size != expected:
        raise StoreError(f"{path}: {size} bytes, expected {expected} for {shape} of {name}: damaged header")
    return decoded(np.memmap(path, dtype, "r", start + span[0], shape), name)
