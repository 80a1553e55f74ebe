"""Restored influence: what TRAK gave up and need not have. Curvature kept, ridge from the rule, no projection."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike
from scipy.linalg import cho_factor, cho_solve

from trak_theory.attribution import influence
from trak_theory.linearization import Linearization
from trak_theory.numerics.checks import non_negative, query_array, real_array
from trak_theory.numerics.spectrum import Spectrum, gram_eigenvalues, spectrum
from trak_theory.retraining.ridge_rule import TrainingRecipe, ridge_rule, subset_ridge, training_ridge


def restored_influence(lin: Linearization, recipe: TrainingRecipe | float, *, fraction: float | None = None) -> Array:
    """−r_i φ_iᵀ(ΦᵀDΦ + λI)⁻¹φ*_j with λ from `ridge_rule`, (n, q), presence sign.

    recipe: how the network was trained, or its training ridge λ_t itself. fraction None: leave-one-out; α: retraining
    on random subsets of αn points. The ridge of `lin` is not used. Exact, through the smaller of the two Gram matrices.

    >>> lin = Linearization(np.eye(2), np.ones(2), np.full(2, 0.25), 0.0, np.eye(2))
    >>> restored_influence(lin, 0.75)
    array([[-1., -0.],
           [-0., -1.]])
    """
    rule = ridge_rule(lin, recipe, fraction=fraction)
    space = spectrum(lin.features, lin.queries)
    return influence(weighted(space, lin.residual, lin.curvature, rule.curvature_weighted))


def weighted(space: Spectrum, residual: Array, curvature: Array, ridge: float) -> Linearization:
    """The curvature-weighted linearisation in the coordinates of a spectrum, at most min(n, p) of them.

    Exact for a ridge > 0: what queries have outside the span of the training rows meets none of them.
    """
    return Linearization(space.training, residual, curvature, ridge, space.queries)


def restored_block_influence(
    jacobian: ArrayLike,
    probabilities: ArrayLike,
    labels: ArrayLike,
    queries: ArrayLike,
    recipe: TrainingRecipe | float,
    *,
    fraction: float | None = None,
) -> Array:
    """Restored influence of a softmax classifier with its full generalised Gauss–Newton block per point, (n, q).

    T_ij = −g_iᵀH⁻¹φ*_j,  g_i = J_iᵀ(π_i − onehot(y_i)),  H = Σ_i J_iᵀ(diag π_i − π_iπ_iᵀ)J_i + λI, presence sign.

    jacobian J (n, C, p)    ∂z_ic/∂θ of the C logits
    probabilities π (n, C)  softmax of the logits
    labels y (n,)           the classes, integers below C
    queries φ* (q, p)       gradients of the query outputs

    λ as in `ridge_rule`, with the leverages of the margin log π_y/(1 − π_y), the one direction in which the loss of
    a point pulls. Cost: the smaller of the p × p and the nC × nC Gram matrix and its Cholesky factor.
    """
    jacobian = real_array("jacobian", jacobian, 3)
    n, classes, p = jacobian.shape
    queries = query_array(queries, p)
    probabilities = probability_rows(probabilities, (n, classes))
    residual = probabilities - np.eye(classes)[class_labels(labels, n, classes)]
    gradients = np.einsum("nc,ncp->np", residual, jacobian)
    ridge = training_ridge(recipe, n)
    if fraction is not None:
        other = -residual.min(1)  # 1 − π_y
        odds = np.divide(1 - other, other, out=np.zeros(n), where=other > 0)
        ridge = subset_ridge(gram_eigenvalues(np.sqrt(odds)[:, None] * gradients), ridge, n=n, fraction=fraction)
    return -ridge_products(gauss_newton_rows(jacobian, probabilities), gradients, queries, ridge)


def probability_rows(probabilities: ArrayLike, shape: tuple[int, int]) -> Array:
    probabilities = non_negative("probabilities", real_array("probabilities", probabilities, 2))
    if probabilities.shape != shape:
        raise ValueError(f"probabilities have shape {probabilities.shape}, the jacobian says {shape}")
    worst = np.abs(probabilities.sum(1) - 1).max()
    if worst > 1e-4:
        raise ValueError(f"probabilities must sum to 1 over classes; a row is {worst:.2g} off (logits, perhaps?)")
    return probabilities


def class_labels(labels: ArrayLike, n: int, classes: int) -> Array:
    labels = np.asarray(labels)
    if labels.shape != (n,) or labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be {n} integers, got {labels.dtype} of shape {labels.shape}")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels span [{labels.min()}, {labels.max()}], the jacobian has {classes} classes")
    return labels


def gauss_newton_rows(jacobian: Array, probabilities: Array) -> Array:
    """Rows B_iJ_i (nC, p) with B_iᵀB_i = diag π_i − π_iπ_iᵀ: B = diag(√π)(I − 1πᵀ)."""
    mean = np.einsum("nc,ncp->np", probabilities, jacobian)
    rows = np.sqrt(probabilities)[:, :, None] * (jacobian - mean[:, None, :])
    return rows.reshape(-1, jacobian.shape[2])


def ridge_products(rows: Array, left: Array, right: Array, ridge: float) -> Array:
    """left (ΨᵀΨ + λI)⁻¹ rightᵀ for rows Ψ (N, p), through the smaller Gram matrix."""
    many, p = rows.shape
    if p <= many:
        gram = rows.T @ rows
        gram[np.diag_indices(p)] += ridge
        return left @ cho_solve(cho_factor(gram, overwrite_a=True, check_finite=False), right.T)
    gram = rows @ rows.T
    gram[np.diag_indices(many)] += ridge
    factor = cho_factor(gram, overwrite_a=True, check_finite=False)
    return (left @ right.T - (left @ rows.T) @ cho_solve(factor, rows @ right.T)) / ridge
