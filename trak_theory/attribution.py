"""The verbs: from a linearisation to an attribution (n, q).

Sign, defined here and nowhere else: *presence*, f_j(θ̂) − f_j(θ̂ without i). Positive means that having the
training point raises the query's output. It is the sign of DFFITS and of the TRAK score.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from numpy.typing import ArrayLike

from trak_theory.linearization import Linearization, drop_ridge, project, unit_curvature
from trak_theory.numerics.checks import positive_count
from trak_theory.projection.matrices import Sketch, projection_matrix


def influence(lin: Linearization) -> Array:
    """The influence function I_ij = −r_i φ_iᵀH⁻¹φ*_j, shape (n, q).

    Relative to `newton` its error is exactly the leverage h_i in every row.

    >>> lin = Linearization(np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([1.0, -1.0]), np.ones(2), 1.0, np.eye(2))
    >>> influence(lin).round(3)
    array([[-0.4,  0.2],
           [ 0.2,  0.4]])
    """
    return -lin.residual[:, None] * lin.cross


def newton(lin: Linearization) -> Array:
    """One Newton step of leave-one-out (ALO): I_ij = −r_i φ_iᵀH⁻¹φ*_j / (1 − h_i), shape (n, q).

    Exact for the squared loss. Rows of leverage 1 in floating point have no leave-one-out minimiser: NaN.

    >>> lin = Linearization(np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([1.0, -1.0]), np.ones(2), 1.0, np.eye(2))
    >>> (influence(lin) / newton(lin)).round(3)[:, 0], (1 - lin.leverage).round(3)
    (array([0.6, 0.4]), array([0.6, 0.4]))
    """
    remaining = 1.0 - lin.leverage
    remaining = np.where(remaining > lin.features.shape[1] * np.finfo(float).eps, remaining, np.nan)
    return influence(lin) / remaining[:, None]


def group_newton(lin: Linearization, groups: Sequence[ArrayLike]) -> Array:
    """One Newton step of leaving out each group, (g, q): −r_Sᵀ(I − K_SS D_S)⁻¹K_S*, K = ΦH⁻¹Φᵀ; presence sign.

    Exact for the squared loss; `newton` where S is one point. NaN where nothing is left. Indices as in numpy.

    >>> lin = Linearization(np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([1.0, -1.0]), np.ones(2), 1.0, np.eye(2))
    >>> bool(np.allclose(group_newton(lin, [[0]])[0], newton(lin)[0]))
    True
    """
    rows, queries = lin.whitened
    found = np.full((len(groups), len(queries)), np.nan)
    for g, group in enumerate(map(np.asarray, groups)):
        kernel, root = rows[group], np.sqrt(lin.curvature[group])
        weighted = root[:, None] * kernel
        core = np.eye(len(group)) - weighted @ weighted.T
        along = weighted @ (lin.residual[group] @ kernel)
        if np.linalg.eigvalsh(core)[0] > rows.shape[1] * np.finfo(float).eps:
            found[g] = -(lin.residual[group] @ kernel + np.linalg.solve(core, along) @ weighted) @ queries.T
    return found


def group_influence(lin: Linearization, groups: Sequence[ArrayLike]) -> Array:
    """The sum of `influence` over each group, (g, q): what TRAK and its relatives say of a group; presence sign.

    >>> lin = Linearization(np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([1.0, -1.0]), np.ones(2), 1.0, np.eye(2))
    >>> bool(np.allclose(group_influence(lin, [[0, 1]])[0], influence(lin).sum(0)))
    True
    """
    single = influence(lin)
    return np.array([single[np.asarray(group)].sum(0) for group in groups])


def trak_kernel(lin: Linearization, *, ridge: float = 0.0) -> Linearization:
    """The kernel that TRAK projects: drop_ridge ∘ unit_curvature, ΦᵀΦ + μI in place of ΦᵀDΦ + λI."""
    return drop_ridge(unit_curvature(lin), ridge=ridge)


def trak(
    lin: Linearization,
    *,
    k: int,
    ensemble: int = 1,
    ridge: float = 0.0,
    kind: Sketch = "normal",
    rng: Generator,
) -> Array:
    """TRAK scores, the mean over `ensemble` projections of influence ∘ project ∘ drop_ridge ∘ unit_curvature.

    T_ij = −r_i · mean_P φ_iᵀP(PᵀΦᵀΦP + μI)⁻¹Pᵀφ*_j with P (p, k), E PPᵀ = I, and μ = `ridge`.

    >>> lin = Linearization(np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([1.0, -1.0]), np.ones(2), 1.0, np.eye(2))
    >>> trak(lin, k=1, ridge=0.1, rng=np.random.default_rng(0)).shape
    (2, 2)
    """
    kernel = trak_kernel(lin, ridge=ridge)
    total = np.zeros((lin.features.shape[0], lin.queries.shape[0]))
    for child in rng.spawn(positive_count("ensemble", ensemble)):
        total += influence(project(kernel, projection_matrix(lin.features.shape[1], k, kind=kind, rng=child)))
    return total / ensemble


def trak_over_models(
    models: Sequence[Linearization], *, k: int, ridge: float = 0.0, kind: Sketch = "normal", rng: Generator
) -> Array:
    """The mean over fitted models, one projection each, of their TRAK scores: mean of (kernel × residual)."""
    scores = [trak(lin, k=k, ridge=ridge, kind=kind, rng=child) for lin, child in _models(models, rng)]
    return np.mean(scores, axis=0)


def trak_mean_factors(
    models: Sequence[Linearization], *, k: int, ridge: float = 0.0, kind: Sketch = "normal", rng: Generator
) -> Array:
    """(mean kernel) × (mean residual) over fitted models, where `trak_over_models` takes the mean of products."""
    kernels, residuals = _mean_factors(models, k=k, ridge=ridge, kind=kind, rng=rng)
    return -residuals[:, None] * kernels


def trak_as_released(
    models: Sequence[Linearization], *, k: int, ridge: float = 0.0, kind: Sketch = "normal", rng: Generator
) -> Array:
    """Mean kernel × mean residual with each factor in half precision after a rescaling by mean absolute entry.

    The scores carry an unknown common positive scale, as those of a released package do: compare ranks.
    """
    factors = _mean_factors(models, k=k, ridge=ridge, kind=kind, rng=rng)
    kernels, residuals = (_half(factor / (np.abs(factor).mean() or 1.0)) for factor in factors)
    return -residuals[:, None] * kernels


def _half(array: Array) -> Array:
    return array.astype(np.float16).astype(np.float64)


def _mean_factors(
    models: Sequence[Linearization], *, k: int, ridge: float, kind: Sketch, rng: Generator
) -> tuple[Array, Array]:
    kernels = []
    for lin, child in _models(models, rng):
        (generator,) = child.spawn(1)  # the very projection that `trak` draws, so that the rungs share it
        matrix = projection_matrix(lin.features.shape[1], k, kind=kind, rng=generator)
        kernels.append(project(trak_kernel(lin, ridge=ridge), matrix).cross)
    return np.mean(kernels, axis=0), np.mean([lin.residual for lin in models], axis=0)


def _models(models: Sequence[Linearization], rng: Generator) -> zip[tuple[Linearization, Generator]]:
    positive_count("the number of models", len(models))
    shapes = {(lin.features.shape, lin.queries.shape) for lin in models}
    if len(shapes) > 1:
        raise ValueError(f"all models must share training points and queries, got shapes {sorted(shapes)}")
    return zip(models, rng.spawn(len(models)), strict=True)
