"""Arrays from an .npz file: memory-mapped where they are stored uncompressed, and never unpickled."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array

LOCAL_HEADER = 30  # bytes of a zip member's header before its name


def read_arrays(path: Path, *, required: Collection[str], optional: Collection[str] = ()) -> dict[str, Array]:
    """The named arrays of an .npz file; unknown names are refused, so that a misspelt one is not silently ignored.

    Raises ValueError for a file that is truncated, pickled or of another format, and FileNotFoundError.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = {Path(entry.filename).stem: entry for entry in archive.infolist()}
            _check_names(path, set(members), set(required), set(required) | set(optional))
            return {name: _member(path, archive, entry) for name, entry in members.items()}
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} is not a readable .npz file ({error}); write it with numpy.savez") from error


def _check_names(path: Path, found: set[str], required: set[str], known: set[str]) -> None:
    missing, unknown = sorted(required - found), sorted(found - known)
    if missing:
        raise ValueError(f"{path} lacks {missing}; it holds {sorted(found)}")
    if unknown:
        raise ValueError(f"{path} holds unknown arrays {unknown}; known are {sorted(known)}")


def _member(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Array:
    with archive.open(entry) as file:
        try:
            version = np.lib.format.read_magic(file)
            shape, fortran, dtype = _header(file, version)
            if dtype.hasobject:
                raise ValueError("it holds pickled objects, which are never loaded")
            if entry.compress_type == zipfile.ZIP_STORED and np.prod(shape) > 0:
                offset = _start_of(path, entry) + file.tell()
                order: Any = "F" if fortran else "C"
                return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape, order=order)
        except ValueError as error:
            raise ValueError(f"{path}: array {Path(entry.filename).stem!r} cannot be read: {error}") from error
    with archive.open(entry) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _header(file: Any, version: tuple[int, int]) -> tuple[tuple[int, ...], bool, np.dtype]:
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)


def _start_of(path: Path, entry: zipfile.ZipInfo) -> int:
    """Where a stored member's bytes begin: its local header has its own lengths of name and extra field."""
    with path.open("rb") as raw:
        raw.seek(entry.header_offset)
        header = raw.read(LOCAL_HEADER)
    return (
        entry.header_offset
        + LOCAL_HEADER
        + int.from_bytes(header[26:28], "little")
        + int.from_bytes(header[28:30], "little")
    )
