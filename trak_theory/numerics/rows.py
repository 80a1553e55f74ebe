"""Rows (n, k) that are read block by block, from a mapped file or from memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike


@runtime_checkable
class Rows(Protocol):
    """Rows (n, k), of which any part is read in double precision, by itself and without the others."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def part(self, start: int, stop: int) -> Rows:
        """Rows start to stop, not read yet."""

    def read(self) -> Array:
        """All of them (n, k), in double precision."""


@dataclass(frozen=True, eq=False)
class StoredRows:
    """An array (n, k) of any real type times a factor, left where it is until it is read.

    Pickled as the place in the file that it is mapped from, and as its numbers where there is no file.

    >>> rows = StoredRows(np.array([[1, 2], [3, 4], [5, 6]], np.float16), 10.0)
    >>> rows.shape, rows.part(1, 3).read().tolist()
    ((3, 2), [[30.0, 40.0], [50.0, 60.0]])
    """

    array: Array
    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        n, k = self.array.shape
        return n, k

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    def __len__(self) -> int:
        return len(self.array)

    def part(self, start: int, stop: int) -> StoredRows:
        return StoredRows(self.array[start:stop], self.scale)

    def read(self) -> Array:
        rows = np.asarray(self.array, np.float64)
        return rows if self.scale == 1.0 else rows * self.scale

    def __reduce__(self) -> tuple[object, ...]:
        place = _place(self.array)
        return (StoredRows, (self.array, self.scale)) if place is None else (_PlacedRows, (place, self.scale))


@dataclass(frozen=True)
class _Place:
    """Where in a file an array lies."""

    file: str
    offset: int
    shape: tuple[int, int]
    strides: tuple[int, ...]
    dtype: np.dtype

    def opened(self) -> Array:
        content = np.memmap(self.file, np.uint8, "r")
        return np.ndarray(self.shape, self.dtype, content, self.offset, self.strides)


@dataclass(frozen=True)
class _PlacedRows:
    """StoredRows whose file is opened only when they are read."""

    place: _Place
    scale: float

    @property
    def shape(self) -> tuple[int, int]:
        return self.place.shape

    def part(self, start: int, stop: int) -> StoredRows:
        return StoredRows(self.place.opened(), self.scale).part(start, stop)

    def read(self) -> Array:
        return StoredRows(self.place.opened(), self.scale).read()


def _place(array: Array) -> _Place | None:
    root = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    if not isinstance(root, np.memmap) or root.filename is None:
        return None
    offset = root.offset + _address(array) - _address(root)
    n, k = array.shape
    return _Place(_where(root), offset, (n, k), array.strides, array.dtype)


def _where(root: np.memmap) -> str:
    return str(root.filename)


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def rows_of(features: ArrayLike | Rows) -> Rows:
    """Rows of an array, or themselves; ValueError unless they are a real matrix."""
    if isinstance(features, Rows):
        return features
    array = features if isinstance(features, np.ndarray) else np.asarray(features)
    if array.ndim != 2 or array.dtype.kind not in "biuf" or array.size == 0:
        raise ValueError(f"features must be a real (n, k) matrix, got {array.dtype} of shape {array.shape}")
    return StoredRows(array)
