"""Rows (n, k) that are read block by block, from a mapped file or from memory."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Protocol, runtime_checkable

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike, DTypeLike


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

    array: Array | ChunkedRows
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


@dataclass(frozen=True, eq=False)
class ChunkedRows:
    """Rows (n, k) of several arrays, one after the other, joined and decoded only where they are read.

    parts      arrays (n_c, k) of one real type, mapped from files or not
    bfloat16   whether they hold bfloat16 as uint16, the upper half of single precision, which is what is read

    A slice is taken without reading; numpy's functions read what they are given. Pickled as the places in the files.

    >>> rows = ChunkedRows((np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]])))
    >>> rows.shape, rows[:2, 1:].read().tolist()
    ((3, 2), [[2.0], [4.0]])
    """

    parts: tuple[Array, ...]
    bfloat16: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        return sum(map(len, self.parts)), self.parts[0].shape[1]

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float32) if self.bfloat16 else self.parts[0].dtype

    @property
    def epsilon(self) -> float:
        """Relative rounding of the stored numbers."""
        return 2.0**-7 if self.bfloat16 else float(np.finfo(self.dtype).eps)

    @property
    def ndim(self) -> int:
        return 2

    @property
    def size(self) -> int:
        n, k = self.shape
        return n * k

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | tuple[slice, slice]) -> ChunkedRows:
        rows, columns = index if isinstance(index, tuple) else (index, slice(None))
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise IndexError(f"rows are read in their order, without gaps: {rows}")
        edges = pairwise(accumulate(map(len, self.parts), initial=0))
        spans = [(part, first, last) for part, (first, last) in zip(self.parts, edges, strict=True)]
        met = [span for span in spans if span[1] < stop and start < span[2]]
        inside = [part[max(start - first, 0) : stop - first] for part, first, _ in met]
        return ChunkedRows(tuple(part[:, columns] for part in inside or [self.parts[0][:0]]), self.bfloat16)

    def part(self, start: int, stop: int) -> ChunkedRows:
        return self[start:stop]

    def read(self) -> Array:
        return self.astype(np.float64)

    def astype(self, dtype: DTypeLike) -> Array:
        """All of them, in memory."""
        found, end = np.empty(self.shape, dtype), 0
        for part in self.parts:
            start, end = end, end + len(part)
            found[start:end] = (part.astype(np.uint32) << 16).view(np.float32) if self.bfloat16 else part
        return found

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        return self.astype(self.dtype if dtype is None else dtype)

    def __reduce__(self) -> tuple[object, ...]:
        places = [_place(part) for part in self.parts]
        kept = [part if place is None else place for part, place in zip(self.parts, places, strict=True)]
        return (_PlacedChunks, (tuple(kept), self.bfloat16))


@dataclass(frozen=True)
class _PlacedChunks:
    """ChunkedRows whose files are opened only when they are read."""

    parts: tuple[Array | _Place, ...]
    bfloat16: bool

    @property
    def shape(self) -> tuple[int, int]:
        return sum(part.shape[0] for part in self.parts), self.parts[0].shape[1]

    def _opened(self) -> ChunkedRows:
        parts = tuple(part.opened() if isinstance(part, _Place) else part for part in self.parts)
        return ChunkedRows(parts, self.bfloat16)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | tuple[slice, slice]) -> ChunkedRows:
        return self._opened()[index]

    def part(self, start: int, stop: int) -> ChunkedRows:
        return self._opened().part(start, stop)

    def read(self) -> Array:
        return self._opened().read()

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        return np.asarray(self._opened(), dtype)


def _place(array: Array | ChunkedRows) -> _Place | None:
    if isinstance(array, ChunkedRows):
        return None  # each of its parts has one
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
