"""Block conjugate gradients: one system, many right-hand sides that share what they learn of its spectrum."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy import ndarray as Array
from scipy.linalg import cho_factor, cho_solve, qr

DEPENDENT = 1e-14  # of a column's first residual: a direction that is left with less is rounding
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
    definite too. Each step minimises every column's ‖X − A⁻¹B‖_A over the directions D of all right-hand sides, which
    are kept orthonormal. The iteration runs on an orthonormal basis of what is left of B, and what converged columns
    would add to D is left out: it is rounding, conjugate to nothing, and with it the others would stop converging. So
    columns that are equal, nearly so, zero or of any size do no harm.

    done    of X and the residual B − A X (as the recurrence has it), before any step and after each

    Source: O'Leary (1980), Linear Algebra and its Applications 29, 293–322; orthonormal directions as Dubrulle (2001).

    >>> A, B = np.diag([1.0, 2.0, 4.0]), np.ones((3, 1))
    >>> found, steps = block_conjugate_gradients(
    ...     lambda x: A @ x, B, 0 * B, lambda r: r, done=lambda x, r: bool(abs(r).max() < 1e-12), steps=9
    ... )
    >>> found.ravel().round(9), steps
    (array([1.  , 0.5 , 0.25]), 3)
    """
    left = right - product(start) if start.any() else right
    residual = _independent(left, np.linalg.norm(left, axis=0))
    mixture, found = residual.T @ left, np.zeros_like(residual)
    ahead = precondition(residual)
    first = np.linalg.norm(ahead, axis=0)
    direction = _independent(ahead, first)
    for step in range(steps):
        if done(start + found @ mixture, residual @ mixture) or not direction.size:
            return start + found @ mixture, step
        image = product(direction)
        factor = cho_factor(direction.T @ image)
        length = cho_solve(factor, direction.T @ residual)
        found += direction @ length
        residual -= image @ length
        ahead = precondition(residual)
        direction = _independent(ahead - direction @ cho_solve(factor, image.T @ ahead), first)
    return start + found @ mixture, steps


def _independent(columns: Array, size: Array) -> Array:
    """An orthonormal basis of columns, each in units of its `size`, but for what is rounding beside these."""
    scaled = columns / np.where(size > 0, size, 1.0)
    basis, triangle, _ = qr(scaled, mode="economic", pivoting=True, check_finite=False)
    return basis[:, np.abs(np.diag(triangle)) > DEPENDENT]
