"""Slow twins: independent implementations that the library is tested against."""

from __future__ import annotations

import numpy as np


def refit(glm, without, start):
    """The minimiser without point `without`: plain damped Newton with dense normal equations, no reduction."""
    keep = np.arange(len(glm.targets)) != without
    features, targets, weights = glm.features[keep], glm.targets[keep], glm.weights[keep]

    def value(theta):
        return weights @ glm.loss.value(targets, features @ theta) + 0.5 * glm.ridge @ theta**2

    theta = start.copy()
    for _ in range(60):
        outputs = features @ theta
        gradient = features.T @ (weights * glm.loss.residual(targets, outputs)) + glm.ridge * theta
        hessian = (features.T * (weights * glm.loss.curvature(targets, outputs))) @ features + np.diag(glm.ridge)
        step = np.linalg.solve(hessian, gradient)
        length = 1.0
        while value(theta - length * step) > value(theta) + 1e-9 * abs(value(theta)) and length > 1e-6:
            length /= 2
        theta = theta - length * step
        if length == 1.0 and np.abs(features @ step).max() < 1e-13 * max(1.0, np.abs(outputs).max()):
            break
    return theta


def dense_kernel(features, curvature, ridge, queries):
    """ΦH⁻¹Φᵀ and ΦH⁻¹Φ*ᵀ with H formed and inverted."""
    inverse = np.linalg.inv((features.T * curvature) @ features + np.diag(np.broadcast_to(ridge, features.shape[1])))
    return features @ inverse @ features.T, features @ inverse @ queries.T


def dual_kernel(features, curvature, ridge, queries):
    """The same through n×n matrices, for p > n and with unpenalised columns Z.

    K = ΨΛ⁻¹Ψᵀ over the penalised columns Ψ, M = D^½(I + D^½KD^½)⁻¹D^½, T = Z − KMZ:
    G = K − KMK + T (ZᵀMZ)⁻¹ Tᵀ.
    """
    ridge = np.broadcast_to(ridge, features.shape[1])
    penalised = ridge > 0
    scaled, scaled_queries = (array[:, penalised] / np.sqrt(ridge[penalised]) for array in (features, queries))
    free, free_queries = features[:, ~penalised], queries[:, ~penalised]
    kernel, cross = scaled @ scaled.T, scaled @ scaled_queries.T
    root = np.sqrt(curvature)
    middle = root[:, None] * np.linalg.inv(np.eye(len(root)) + root[:, None] * kernel * root) * root
    gram, gram_cross = kernel - kernel @ middle @ kernel, cross - kernel @ middle @ cross
    if free.shape[1]:
        tail = free - kernel @ middle @ free
        tail_queries = free_queries.T - free.T @ middle @ cross
        inner = np.linalg.inv(free.T @ middle @ free)
        gram, gram_cross = gram + tail @ inner @ tail.T, gram_cross + tail @ inner @ tail_queries
    return gram, gram_cross
