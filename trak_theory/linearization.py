"""The narrow waist: a fitted model as a linearisation, and the endomaps that approximate it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy import ndarray as Array

from trak_theory.numerics.checks import frozen, non_negative, query_array, real_array, ridge_array
from trak_theory.numerics.whitening import hessian_factor, row_space, whiten


@dataclass(frozen=True, eq=False)
class Linearization:
    """A model linearised at its optimum θ̂.

    features Φ (n, p)   φ_i = ∂f_i/∂θ
    residual r (n,)     w_i ∂ℓ_i/∂f
    curvature d (n,)    w_i ∂²ℓ_i/∂f² ≥ 0
    ridge λ             one value or (p,), sum convention: H = ΦᵀDΦ + diag(λ)
    queries Φ* (q, p)   ∂f_*/∂θ

    Derived: leverage h_i = d_i φ_iᵀH⁻¹φ_i (n,), in [0, 1); cross c_ij = φ_iᵀH⁻¹φ*_j (n, q); degrees_of_freedom Σh.
    With ridge 0 and p > n the inverse is the pseudo-inverse on the span of the training rows. A singular H
    raises RankDeficientError when a derived quantity is asked for.

    >>> lin = Linearization(np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([1.0, -1.0]), np.ones(2), 1.0, np.eye(2))
    >>> lin.leverage.round(3)
    array([0.4, 0.6])
    """

    features: Array
    residual: Array
    curvature: Array
    ridge: Any
    queries: Array

    def __post_init__(self) -> None:
        features = real_array("features", self.features, 2)
        n, p = features.shape
        checked = {
            "features": features,
            "residual": real_array("residual", self.residual, 1),
            "curvature": non_negative("curvature", real_array("curvature", self.curvature, 1)),
            "ridge": ridge_array(self.ridge, p),
            "queries": query_array(self.queries, p),
        }
        for name in ("residual", "curvature"):
            if checked[name].shape != (n,):
                raise ValueError(f"{name} has {checked[name].size} values for n = {n} points")
        for name, value in checked.items():
            object.__setattr__(self, name, frozen(value))

    @cached_property
    def whitened(self) -> tuple[Array, Array]:
        """Training rows A (n, m) and query rows B (q, m) with AAᵀ = ΦH⁻¹Φᵀ and ABᵀ = ΦH⁻¹Φ*ᵀ, m ≤ p."""
        space = row_space(self.features, self.ridge)
        factor = hessian_factor(space.features, self.curvature, space.ridge)
        return whiten(factor, space.features), whiten(factor, space.pull(self.queries))

    @cached_property
    def leverage(self) -> Array:
        training, _ = self.whitened
        return self.curvature * np.einsum("im,im->i", training, training)

    @cached_property
    def cross(self) -> Array:
        training, queries = self.whitened
        return training @ queries.T

    @property
    def degrees_of_freedom(self) -> float:
        """Σ_i h_i = tr ΦᵀDΦ H⁻¹."""
        return float(self.leverage.sum())


def unit_curvature(lin: Linearization) -> Linearization:
    """D → I in the Hessian: H becomes ΦᵀΦ + diag(λ). TRAK's kernel forgets the curvature of the loss.

    >>> lin = Linearization(np.eye(2), np.ones(2), np.array([0.25, 0.1]), 1.0, np.eye(2))
    >>> unit_curvature(lin).curvature
    array([1., 1.])
    """
    return replace(lin, curvature=np.ones_like(lin.curvature))


def drop_ridge(lin: Linearization, *, ridge: float = 0.0) -> Linearization:
    """λ → 0, or → the `ridge` that a projected kernel is given instead (TRAK's λ_reg, in the sum convention).

    >>> lin = Linearization(np.eye(2), np.ones(2), np.ones(2), 1.0, np.eye(2))
    >>> drop_ridge(lin, ridge=0.5).ridge
    array([0.5, 0.5])
    """
    return replace(lin, ridge=float(ridge))


def project(lin: Linearization, projection: Any) -> Linearization:
    """φ → Pᵀφ for training and query rows; P (p, k), dense or scipy sparse, scaled so that E PPᵀ = I.

    Needs one common ridge: a ridge per coefficient has no meaning after the projection.

    >>> lin = Linearization(np.eye(3), np.ones(3), np.ones(3), 1.0, np.eye(3))
    >>> project(lin, np.ones((3, 1))).features.ravel()
    array([1., 1., 1.])
    """
    if not np.all(lin.ridge == lin.ridge[0]):
        raise ValueError("project needs one ridge for all coefficients; use drop_ridge first, as TRAK does")
    entries = projection.data if hasattr(projection, "tocsr") else real_array("projection", projection, 2)
    if not np.all(np.isfinite(entries)):
        raise ValueError("projection has non-finite entries")
    p = lin.features.shape[1]
    if projection.shape[0] != p:
        raise ValueError(f"projection has {projection.shape[0]} rows, the features have p = {p}")
    return replace(
        lin,
        features=lin.features @ projection,
        queries=lin.queries @ projection,
        ridge=float(lin.ridge[0]),
    )
