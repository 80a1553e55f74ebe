"""One place where arrays from outside become finite float64 arrays, or a clear error."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike

from trak_theory.errors import ScaleError

LARGEST_EXACT_INTEGER = 2**53
LARGEST_SCALE = 1e140  # squares of sums, and their reciprocals, stay within the range of float64


def real_array(name: str, value: ArrayLike, ndim: int) -> Array:
    """`value` as a finite float64 array with `ndim` axes, a copy unless read-only; the error names what is wrong."""
    if np.ma.is_masked(value):
        raise ValueError(
            f"{name} is a masked array with {np.ma.count_masked(value)} masked entries: fill them (numpy.ma.filled) "
            "or drop their rows first"
        )
    array = np.asarray(value)
    if array.dtype.kind == "O":
        raise TypeError(f"{name} is an object array; convert it to numbers first (np.asarray(…, dtype=float))")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be real numbers, got dtype {array.dtype}")
    if array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} axes, got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} is empty: shape {array.shape}")
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        largest = max(abs(int(array.max())), abs(int(array.min())))
        if largest > LARGEST_EXACT_INTEGER:
            raise ValueError(f"{name} holds the integer {largest}, beyond 2⁵³: not exact in float64; rescale it")
    array = array.astype(np.float64, copy=array.flags.writeable)
    bad = ~np.isfinite(array)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(f"{name} has {bad.sum()} non-finite entries (NaN or inf), the first at index {first}")
    return array


def frozen(array: Array) -> Array:
    """The array itself, read-only from here on: what shares it need not copy it."""
    array.flags.writeable = False
    return array


def non_negative(name: str, array: Array) -> Array:
    if np.any(array < 0):
        index = int(np.argmin(array))
        raise ValueError(f"{name} must be ≥ 0, got {array.flat[index]:g} at index {index}")
    return array


def check_scale(features: Array, ridge: Array) -> None:
    """Raise ScaleError where squares of the features overflow, or underflow with no ridge beside them."""
    largest = np.abs(features).max(0)
    too_large, too_small = largest > LARGEST_SCALE, (largest > 0) & (largest < 1 / LARGEST_SCALE) & (ridge == 0)
    for bad, what in ((too_large, "overflow"), (too_small, "underflow")):
        if bad.any():
            j = int(np.argmax(bad))
            raise ScaleError(
                f"the squares of {np.sum(bad)} of {bad.size} columns of features {what} float64: the largest entry of "
                f"column {j} is {largest[j]:.3g}; divide the column by that, and its ridge by the square"
            )


def ridge_array(ridge: ArrayLike, p: int) -> Array:
    """The ridge as one value per coefficient, shape (p,)."""
    ndim = np.ndim(ridge)
    array = real_array("ridge", ridge, min(ndim, 1))
    if ndim == 1 and array.shape != (p,):
        raise ValueError(f"ridge has {array.size} values for p = {p} coefficients; give one value or p values")
    return non_negative("ridge", np.broadcast_to(array, (p,)).astype(float))


def query_array(queries: ArrayLike, p: int) -> Array:
    array = real_array("queries", queries, 2)
    if array.shape[1] != p:
        raise ValueError(f"queries have width {array.shape[1]}, the features have p = {p}")
    return array


def positive_count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return int(value)
