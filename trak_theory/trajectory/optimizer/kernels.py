"""Elementwise sums and quotients in one kernel where the array library has one and the factor is a number."""

from __future__ import annotations

from array_api_compat import array_namespace

from trak_theory.numerics.tensor import Tensor

Factor = Tensor | float


def plus(a: Tensor, x: Tensor, factor: Factor) -> Tensor:
    """a + c x."""
    xp = array_namespace(x)
    if _one_kernel(xp, a, factor):
        return xp.add(a, x, alpha=factor)
    return a + factor * x


def plus_product(a: Tensor, x: Tensor, y: Tensor, factor: Factor) -> Tensor:
    """a + c x y."""
    xp = array_namespace(x)
    if _one_kernel(xp, a, factor):
        return xp.addcmul(a, x, y, value=factor)
    return a + factor * x * y


def plus_quotient(a: Tensor, x: Tensor, y: Tensor, factor: Factor) -> Tensor:
    """a + c x/y."""
    xp = array_namespace(x)
    if _one_kernel(xp, a, factor):
        return xp.addcdiv(a, x, y, value=factor)
    return a + factor * x / y


def _one_kernel(xp: object, a: Tensor, factor: Factor) -> bool:
    """As in torch, for an array a and a number c."""
    return hasattr(xp, "addcmul") and hasattr(a, "dtype") and isinstance(factor, float | int)
