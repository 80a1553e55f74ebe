"""Elementwise formulas in one kernel where an array has a method for it and the factor is a number (torch).

Wherever an array `into` is given, the result is written to it; it may be one of the arguments.
"""

from __future__ import annotations

from math import prod

from array_api_compat import array_namespace

from trak_theory.numerics.tensor import Tensor

Factor = Tensor | float


def plus(a: Tensor, x: Tensor, factor: Factor, into: Tensor = None) -> Tensor:
    """a + c x."""
    if _one_kernel(a, factor):
        return array_namespace(x).add(a, x, alpha=factor, out=into)
    return written(a + factor * x, into)


def plus_product(a: Tensor, x: Tensor, y: Tensor, factor: Factor, into: Tensor = None) -> Tensor:
    """a + c x y."""
    if _one_kernel(a, factor):
        return array_namespace(x).addcmul(a, x, y, value=factor, out=into)
    return written(a + factor * x * y, into)


def plus_quotient(a: Tensor, x: Tensor, y: Tensor, factor: Factor, into: Tensor = None) -> Tensor:
    """a + c x/y."""
    if _one_kernel(a, factor):
        return array_namespace(x).addcdiv(a, x, y, value=factor, out=into)
    return written(a + factor * x / y, into)


def mix(share: Factor, old: Tensor, new: Tensor, into: Tensor = None) -> Tensor:
    """c old + (1 − c) new."""
    if prod(old.shape) > prod(new.shape):
        return plus((1 - share) * new, old, share, into)
    return plus(share * old, new, 1 - share, into)


def mix_square(share: Factor, old: Tensor, new: Tensor, into: Tensor = None) -> Tensor:
    """c old + (1 − c) new²."""
    if prod(old.shape) > prod(new.shape):
        return plus((1 - share) * new * new, old, share, into)
    return plus_product(share * old, new, new, 1 - share, into)


def root_plus(x: Tensor, shift: Factor, into: Tensor = None) -> Tensor:
    """√x + c."""
    root = array_namespace(x).sqrt(x, out=into)
    root += shift
    return root


def scaled(factor: Factor, x: Tensor, into: Tensor = None) -> Tensor:
    """c x."""
    if into is not None and hasattr(into, "addcmul"):
        return array_namespace(x).mul(x, factor, out=into)
    return written(factor * x, into)


def _one_kernel(a: Tensor, factor: Factor) -> bool:
    return isinstance(factor, float | int) and hasattr(a, "addcmul")


def written(value: Tensor, into: Tensor) -> Tensor:
    """The value, in `into` where that is given."""
    if into is None:
        return value
    into[...] = value
    return into
