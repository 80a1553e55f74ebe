"""Arrays of an .npz file: checksums verified, memory-mapped where they are stored uncompressed, never unpickled."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from math import prod
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from trak_theory.auditing.stores.files import npy_header, reading
from trak_theory.errors import StoreError

LOCAL_HEADER = 30  # bytes of a zip member's header before its name
LARGEST_EXPANSION = 100  # times its compressed size; numbers compress two- or threefold
PIECE = 2**22  # bytes read at a time while a checksum is verified


def read_arrays(path: Path, *, required: Collection[str], optional: Collection[str] = ()) -> dict[str, Array]:
    """The named arrays; unknown names are refused, so that a misspelt one is not silently ignored."""
    with reading(path), _opened(path) as archive:
        entries = archive.infolist()
        members = {entry.filename.removesuffix(".npy"): entry for entry in entries}
        if len(members) < len(entries):
            raise StoreError(f"{path}: holds an array twice: {sorted(entry.filename for entry in entries)}")
        _check_names(path, set(members), set(required), {*required, *optional})
        return {name: _member(path, archive, entry) for name, entry in members.items()}


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise StoreError(f"{path} is not a readable .npz file ({error}); write it with numpy.savez") from error


def _check_names(path: Path, found: set[str], required: set[str], known: set[str]) -> None:
    if missing := sorted(required - found):
        raise StoreError(f"{path}: lacks {missing}; it holds {sorted(found)}")
    if unknown := sorted(found - known):
        raise StoreError(f"{path}: unknown arrays {unknown}, known are {sorted(known)}")


def _member(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Array:
    file = path / entry.filename
    if entry.file_size > LARGEST_EXPANSION * max(entry.compress_size, 1):
        sizes = f"{entry.compress_size} bytes would expand to {entry.file_size}"
        raise StoreError(f"{file}: {sizes}: write it with numpy.savez")
    with archive.open(entry) as content:
        shape, fortran, dtype = npy_header(file, content)
        offset = content.tell()
        expected = offset + prod(shape) * dtype.itemsize
        if expected != entry.file_size or prod(shape) == 0:
            raise StoreError(f"{file}: {entry.file_size} bytes, expected {expected} for {shape} of {dtype}")
        if entry.compress_type == zipfile.ZIP_STORED:
            while content.read(PIECE):  # the last piece is compared with the checksum
                pass
            start = _start_of(path, entry) + offset
            return np.memmap(path, dtype=dtype, mode="r", offset=start, shape=shape, order="F" if fortran else "C")
        values = np.frombuffer(content.read(), dtype)
        return values.reshape(shape, order="F" if fortran else "C")


def _start_of(path: Path, entry: zipfile.ZipInfo) -> int:
    """Offset of a stored member's bytes: its local header has its own lengths of name and extra field."""
    with path.open("rb") as raw:
        raw.seek(entry.header_offset)
        header = raw.read(LOCAL_HEADER)
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return entry.header_offset + LOCAL_HEADER + lengths
