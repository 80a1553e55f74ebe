"""Queries: a function of the final parameters θ_T, and its gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace, device, to_device
from numpy import ndarray as Array

from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.objective import Objective


@dataclass(frozen=True, eq=False)
class Query:
    """value: θ (p,) ↦ f (q,), or a number;  gradient: θ (p,) ↦ ∂f/∂θ (q, p), or (p,)."""

    value: Callable[[Tensor], Tensor]
    gradient: Callable[[Tensor], Tensor]

    def read(self, theta: Tensor) -> Array:
        """f(θ) as (q,) in float64."""
        return np.atleast_1d(as_numpy(self.value(theta)))

    def slope(self, theta: Tensor) -> Tensor:
        """∂f/∂θ as (q, p)."""
        gradient = self.gradient(theta)
        gradient = gradient[None, :] if gradient.ndim == 1 else gradient
        if gradient.shape[-1] != theta.shape[-1]:
            raise ValueError(f"the query's gradient has {gradient.shape[-1]} entries, θ has p = {theta.shape[-1]}")
        return gradient


def as_query(query: Tensor, theta: Tensor) -> Query:
    """The Query itself, or queryᵀθ for an array (p,) or (p, q)."""
    if isinstance(query, Query):
        return query
    xp = array_namespace(theta)
    columns = xp.asarray(query, dtype=theta.dtype, device=device(theta))
    columns = columns[:, None] if columns.ndim == 1 else columns
    if columns.ndim != 2 or columns.shape[0] != theta.shape[-1]:
        raise ValueError(
            f"a linear query must have shape (p,) or (p, q) with p = {theta.shape[-1]}, got {tuple(columns.shape)}"
        )
    return Query(lambda at: at @ columns, lambda at: columns.T)


def loss_query(objective: Objective, batch: Tensor, *, mean: bool = False) -> Query:
    """The losses of the samples `batch` of an objective, one query each, or their mean, all weighing the same.

    >>> from trak_theory.trajectory import MLP
    >>> model = MLP(np.eye(3), [0, 1, 1], hidden=(2,))
    >>> query = loss_query(model, [0, 1, 2], mean=True)
    >>> float(query.value(np.zeros(model.p)).round(4))  # log 2
    0.6931
    """
    batch = np.asarray(batch)
    if not mean:
        return Query(lambda theta: objective.loss(theta, batch), lambda theta: objective.sample_gradients(theta, batch))

    def average(theta: Tensor) -> Tensor:
        values = objective.loss(theta, batch)
        return array_namespace(values).mean(values, axis=-1)

    def slope(theta: Tensor) -> Tensor:
        xp = array_namespace(theta)
        share = xp.full((len(batch),), 1.0 / len(batch), dtype=theta.real.dtype, device=device(theta))
        return objective.gradient(theta, batch, share)

    return Query(average, slope)


def as_numpy(array: Tensor) -> Array:
    """Any array as float64 numpy on the host."""
    if not isinstance(array, (np.ndarray, float, int)):
        array = to_device(array, "cpu")
    return np.asarray(array, dtype=float)
