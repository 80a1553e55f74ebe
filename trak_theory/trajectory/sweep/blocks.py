"""Elementwise work block by block over the coordinates, so that its temporaries are small beside what it reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, prod

from array_api_compat import array_namespace, device

from trak_theory.numerics.tensor import Tensor

SMALL = 2**18  # numbers in a temporary: enough to hide the price of a call, few enough for a cache
SHARE = 16  # of a vector that is longer than SHARE · SMALL, a temporary holds this part


def blocks(rows: int, p: int) -> list[slice]:
    """The p coordinates in blocks for temporaries (rows, block) of at most max(SMALL, p/SHARE) numbers."""
    count = ceil(rows * p / max(SMALL, p // SHARE))
    size = max(1, ceil(p / max(1, count)))
    return [slice(None)] if size >= p else [slice(first, first + size) for first in range(0, p, size)]


def in_blocks(function: Callable[[slice], tuple[Tensor, ...]], p: int, pieces: Sequence[slice]) -> tuple[Tensor, ...]:
    """function(all coordinates), arrays (…, p), put together from function(block), arrays (…, block)."""
    whole: tuple[Tensor, ...] = ()
    for block in pieces:
        parts = function(block)
        if block == slice(None):
            return parts
        whole = whole or tuple(empty((*part.shape[:-1], p), part) for part in parts)
        for target, part in zip(whole, parts, strict=True):
            target[..., block] = part
    return whole


def empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    return array_namespace(like).empty(shape, dtype=like.dtype, device=device(like))


def zeros(shape: tuple[int, ...], like: Tensor) -> Tensor:
    return array_namespace(like).zeros(shape, dtype=like.dtype, device=device(like))


def rows_of(array: Tensor) -> int:
    return prod(array.shape[:-1])


def squared_norm(part: Callable[[slice], Tensor], pieces: Sequence[slice]) -> Tensor:
    """Σ g², not |g|², of g (…, p) given by its parts (…, block): (…, 1). Complex steps pass through."""
    total: Tensor = 0.0
    for block in pieces:
        g = part(block)
        total = total + array_namespace(g).sum(g * g, axis=-1, keepdims=True)
    return total
