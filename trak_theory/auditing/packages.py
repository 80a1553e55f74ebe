"""Ridges of released TRAK packages in the sum convention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Package:
    """A released package: its ridge parameter, the sum-convention μ of one unit of it, and its defaults."""

    name: str
    parameter: str
    unit: Callable[[int, int], float]  # (p, k) → μ of parameter = 1
    default_k: int
    default_value: float


PACKAGES = {
    package.name: package
    for package in (
        Package("none", "ridge", lambda p, k: 1.0, 2048, 0.0),
        # Gradients over √p and N(0, 1) entries in P: its Gram matrix is k/p times that of E PPᵀ = I, dattri's is 1/p.
        Package("traker", "lambda_reg", lambda p, k: p / k, 2048, 0.0),
        Package("dattri", "regularization", lambda p, k: float(p), 512, 0.0),
    )
}


def package_named(name: str | Package) -> Package:
    """The package of that name, or the one given; ValueError with the choices otherwise."""
    if isinstance(name, Package):
        return name
    if name not in PACKAGES:
        raise ValueError(f"unknown package {name!r}: choose one of {sorted(PACKAGES)}")
    return PACKAGES[name]
