"""Digests of what must not change: arrays, texts and files."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

SIZE = 16  # bytes of a digest
PIECE = 2**20  # bytes of a file that are read at once


def digest_of_bytes(content: bytes | memoryview) -> str:
    """
    >>> digest_of_bytes(b"")
    'cae66941d9efbd404e4d88758ea67670'
    """
    return blake2b(content, digest_size=SIZE).hexdigest()


def digest_of_arrays(arrays: Iterable[Array]) -> str:
    """Of the values, shapes and dtypes, in their order."""
    content = blake2b(digest_size=SIZE)
    for array in arrays:
        content.update(f"{array.dtype.str}{array.shape}".encode())
        content.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return content.hexdigest()


def digest_of_file(path: Path) -> str:
    """Read piece by piece."""
    content = blake2b(digest_size=SIZE)
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            content.update(piece)
    return content.hexdigest()
