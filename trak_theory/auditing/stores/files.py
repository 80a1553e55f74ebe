"""Files of a store, read safely: sizes checked before anything is mapped, nothing unpickled, one kind of error."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy import ndarray as Array

from trak_theory.errors import StoreError

Kind = TypeVar("Kind")
LARGEST_JSON = 2**28  # bytes
NO_CHECKSUMS = "the format holds no checksums: sizes and flags were checked, a damaged number may stay unseen"
BFLOAT16 = "bfloat16"  # no dtype of numpy's: read as uint16, returned as float32


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Any failure inside becomes one StoreError: damaged bytes make parsers fail in many different ways."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    except StoreError:
        raise
    except FileNotFoundError as error:
        raise StoreError(f"{error.filename or path}: no such file") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise StoreError(f"{path}: cannot be read: {reason}") from error


def read_json(path: Path, kind: type = dict) -> Any:
    """The object (or list) of a JSON file."""
    with reading(path):
        size = file_size(path)
        if size > LARGEST_JSON:
            raise StoreError(f"{path}: {size} bytes of metadata, at most {LARGEST_JSON} are read")
        content = json.loads(path.read_bytes())
    if not isinstance(content, kind):
        raise StoreError(f"{path}: expected a JSON {kind.__name__}, found {type(content).__name__}")
    return content


def mentions(path: Path, word: bytes) -> bool:
    """A metadata file with that word near its beginning."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return word in file.read(2**16)


def entry(path: Path, content: object, name: str, kind: type[Kind]) -> Kind:
    """content[name] if it is of that kind (a bool is no int); StoreError otherwise."""
    value = content.get(name) if isinstance(content, dict) else None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise StoreError(f"{path}: {name!r} should be of type {kind.__name__}, found {value!r:.60}")
    return value


def count(path: Path, content: object, name: str, least: int = 1) -> int:
    """An integer of a JSON object."""
    value = entry(path, content, name, int)
    if value < least:
        raise StoreError(f"{path}: {name!r} should be at least {least}, found {value}")
    return value


def counts(path: Path, content: object, name: str, least: int = 1) -> tuple[int, ...]:
    """A list of integers of a JSON object."""
    values = entry(path, content, name, list)
    return tuple(count(path, {name: value}, name, least) for value in values)


def file_size(path: Path) -> int:
    if path.exists() and not path.is_file():
        raise StoreError(f"{path}: is not a file")
    return path.stat().st_size


def dtype_named(path: Path, name: str) -> np.dtype:
    """The dtype of stored numbers: bfloat16 comes as its 16 bits."""
    known = {"float16", "float32", "float64", BFLOAT16}
    if name not in known:
        raise StoreError(f"{path}: numbers of type {name!r:.40}, read are {', '.join(sorted(known))}")
    return np.dtype(np.uint16 if name == BFLOAT16 else name)


def decoded(array: Array, name: str) -> Array:
    """bfloat16 as float32, in memory and twice the size; anything else unchanged."""
    return (array.astype(np.uint32) << 16).view(np.float32) if name == BFLOAT16 else array


def read_raw(path: Path, dtype: np.dtype, shape: tuple[int, ...], offset: int = 0) -> Array:
    """Memory-mapped numbers that fill the file from `offset` to its end."""
    with reading(path):
        expected, found = offset + prod(shape) * dtype.itemsize, file_size(path)
        if prod(shape) == 0:
            raise StoreError(f"{path}: is empty: shape {shape}")
        if found != expected:
            hint = "truncated or half-written" if found < expected else "bytes too many, or of another shape"
            raise StoreError(f"{path}: {found} bytes, expected {expected} for {shape} of {dtype}: {hint}")
        return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)


def read_npy(path: Path, shape: tuple[int, ...] | None = None) -> Array:
    """A memory-mapped .npy file, whatever its suffix; of that shape if one is given."""
    with reading(path):
        file_size(path)
        with path.open("rb") as file:
            found, fortran, dtype = npy_header(path, file)
            offset = file.tell()
        if shape is not None and found != shape:
            raise StoreError(f"{path}: shape {found}, expected {shape}: of another store, or its metadata is")
        array = read_raw(path, dtype, found[::-1] if fortran else found, offset)
        return array.T if fortran else array


def npy_header(path: Path, file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and dtype; StoreError for pickled objects and anything that is not numbers."""
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise StoreError(f"{path}: .npy format {version[0]}.{version[1]}, read are 1.0 and 2.0")
    shape, fortran, dtype = readers[version](file)
    if dtype.hasobject:
        raise StoreError(f"{path}: holds pickled objects, which are never loaded")
    if dtype.kind not in "biuf" or any(size < 0 for size in shape):
        raise StoreError(f"{path}: holds {dtype} of shape {shape}, expected real numbers")
    return shape, fortran, dtype
