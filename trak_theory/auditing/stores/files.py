"""Files of a store, read safely: sizes checked before anything is mapped, nothing unpickled, one kind of error."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy import ndarray as Array

from trak_theory.auditing.stores.contents import StoreError

LARGEST_JSON = 2**26  # bytes
BLOCK = 2**22  # entries held in double precision while a file is checked
LARGEST, SMALLEST = 1e60, 1e-60  # of an entry: the laws need its fourth power
NO_CHECKSUMS = "the format holds no checksums: sizes and flags were checked, a damaged number may stay unseen"
FAR = 1e6  # a row so many times longer than the median row is named


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
        raise StoreError(f"{path}: no such file") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise StoreError(f"{path}: cannot be read: {reason}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object of a JSON file."""
    with reading(path):
        size = _size(path)
        if size > LARGEST_JSON:
            raise StoreError(f"{path}: {size} bytes of metadata, at most {LARGEST_JSON} are read")
        content = json.loads(path.read_bytes())
    if not isinstance(content, dict):
        raise StoreError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def mentions(path: Path, word: bytes) -> bool:
    """A metadata file with that word near its beginning."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return word in file.read(2**16)


def entry(path: Path, content: dict[str, Any], name: str, kind: type) -> Any:
    """content[name] if it is of that kind (an int is no bool); StoreError otherwise."""
    value = content.get(name)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise StoreError(f"{path}: {name!r} should be of type {kind.__name__}, found {value!r:.60}")
    return value


def count(path: Path, content: dict[str, Any], name: str) -> int:
    """A positive integer of a JSON object."""
    value: int = entry(path, content, name, int)
    if value < 1:
        raise StoreError(f"{path}: {name!r} should be at least 1, found {value}")
    return value


def read_raw(path: Path, dtype: np.dtype, shape: tuple[int, ...], offset: int = 0) -> Array:
    """Memory-mapped numbers that fill the file from `offset` to its end."""
    with reading(path):
        expected, found = offset + prod(shape) * dtype.itemsize, _size(path)
        if prod(shape) == 0:
            raise StoreError(f"{path}: is empty: shape {shape}")
        if found != expected:
            hint = "truncated or half-written" if found < expected else "bytes too many, or of another shape"
            raise StoreError(f"{path}: {found} bytes, expected {expected} for {shape} of {dtype}: {hint}")
        return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)


def read_npy(path: Path, shape: tuple[int, ...] | None = None) -> Array:
    """A memory-mapped .npy file, whatever its suffix; of that shape if one is given."""
    with reading(path):
        _size(path)
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


def checked_rows(path: Path, array: Array, width: int | None = None) -> tuple[str, ...]:
    """StoreError unless a matrix of finite numbers of usable size; a remark for a row far longer than the others."""
    if array.ndim != 2 or (width is not None and array.shape[1] != width):
        expected = "(rows, columns)" if width is None else f"(rows, {width})"
        raise StoreError(f"{path}: shape {array.shape}, expected {expected}")
    lengths, largest = np.empty(len(array)), 0.0
    step = max(1, BLOCK // array.shape[1])
    for start in range(0, len(array), step):
        block = np.abs(array[start : start + step].astype(np.float64))
        if not np.isfinite(block).all():
            row = start + int(np.argmin(np.isfinite(block).all(1)))
            raise StoreError(f"{path}: NaN or inf, first in row {row} of {len(array)}: compute this store again")
        largest = max(largest, float(block.max()))
        if largest > LARGEST:
            raise StoreError(f"{path}: entries reach {largest:.3g}, at most {LARGEST:g} are read: rescale them")
        lengths[start : start + step] = np.sqrt(np.einsum("ij,ij->i", block, block))
    if largest == 0:
        return (f"{path}: every entry is zero",)
    if largest < SMALLEST:
        raise StoreError(f"{path}: no entry exceeds {largest:.3g}, at least {SMALLEST:g} are read: rescale them")
    return _far_rows(path, lengths)


def _far_rows(path: Path, lengths: Array) -> tuple[str, ...]:
    typical = float(np.median(lengths[lengths > 0]))
    row = int(np.argmax(lengths))
    if lengths[row] <= FAR * typical:
        return ()
    return (f"{path}: row {row} has norm {lengths[row]:.3g}, the median row {typical:.3g}: damaged, or an outlier",)


def checked_vector(path: Path, array: Array, n: int) -> Array:
    """`n` finite numbers in double precision, from (n,) or (n, 1)."""
    if array.shape not in ((n,), (n, 1)):
        raise StoreError(f"{path}: shape {array.shape}, expected ({n},)")
    values = np.asarray(array, np.float64).ravel()
    if not np.isfinite(values).all():
        raise StoreError(f"{path}: NaN or inf, first at {int(np.argmin(np.isfinite(values)))} of {n}")
    if np.abs(values).max() > LARGEST:
        raise StoreError(f"{path}: entries reach {np.abs(values).max():.3g}, at most {LARGEST:g} are read")
    return values


def _size(path: Path) -> int:
    if path.exists() and not path.is_file():
        raise StoreError(f"{path}: is not a file")
    return path.stat().st_size
