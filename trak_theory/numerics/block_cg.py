"""Block conjugate gradients: one system, many right-hand sides that share what they learn of its spectrum."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy import ndarray as Array
from scipy.linalg import cho_factor, cho_solve

Product = Callable[[Array], Array]


def block_conjugate_gradients(
    product: Product,
    right: Array,
    start: Array,
    precondition: Product,
    *,
    done: Callable[[Array, Array], bool],
    steps: int,
) -> tuple[Array, int]:
    """X (N, q) with A X ≈ B, and the number of steps, one product A D (N, q) each.

    A is symmetric positive definite and only known by `product`; `precondition` applies M⁻¹, symmetric positive
    definite too. Each step minimises every column's ‖X − A⁻¹B‖_A over the directions D of all right-hand sides,
    which are kept orthonormal: columns that are converged, equal or zero do no harm.

    done    of X and the residual B − A X (as the recurrence has it), before any step and after each

    Source: O'Leary (1980), Linear Algebra and its Applications 29, 293–322; orthonormal directions as Dubrulle (2001).

    >>> A, B = np.diag([1.0, 2.0, 4.0]), np.ones((3, 1))
    >>> found, steps = block_conjugate_gradients(
    ...     lambda x: A @ x, B, 0 * B, lambda r: r, done=lambda x, r: bool(abs(r).max() < 1e-12), steps=9
    ... )
    >>> found.ravel().round(9), steps
    (array([1.  , 0.5 , 0.25]), 3)
    """
    solution, residual = start.copy(), right - product(start) if start.any() else right.copy()
    direction = _orthonormal(precondition(residual))
    for step in range(steps):
        if done(solution, residual):
            return solution, step
        image = product(direction)
        factor = cho_factor(direction.T @ image)
        length = cho_solve(factor, direction.T @ residual)
        solution += direction @ length
        residual -= image @ length
        ahead = precondition(residual)
        direction = _orthonormal(ahead - direction @ cho_solve(factor, image.T @ ahead))
    return solution, steps


def _orthonormal(columns: Array) -> Array:
    return np.linalg.qr(columns)[0]
