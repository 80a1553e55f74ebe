"""Directions that are sums over tokens with random signs: the ridge that they stand for, by brute force over draws."""

from __future__ import annotations

import numpy as np
import pytest

N, TOKENS, P, RIDGE, DRAWS = 40, 8, 60, 10.0, 150


@pytest.mark.parametrize("count", [2, 4])
def test_drawn_directions_stand_for_a_ridge_that_is_larger_by_their_degrees_of_freedom(count):
    """E (Ψ_sᵀΨ_s + μI)⁻¹ ≃ (1 + ē)(ΨᵀΨ + λI)⁻¹ for λ = (1 + ē)μ, 1/(1 + ē) = 1 − df/(n m): as for a projection."""
    rng = np.random.default_rng(count)
    scale = np.logspace(0, -1, P)
    tokens = rng.standard_normal((N, TOKENS, P)) * scale / np.sqrt(TOKENS)
    gradients, queries = rng.standard_normal((N, P)) * scale, rng.standard_normal((4, P)) * scale
    whole = np.einsum("ilp,ilq->pq", tokens, tokens)
    exact = -gradients @ np.linalg.solve(whole + RIDGE * np.eye(P), queries.T)
    plain, corrected, ranks = np.zeros_like(exact), np.zeros_like(exact), np.zeros(2)
    for _ in range(DRAWS):
        signs = rng.choice([-1.0, 1.0], (N, count, TOKENS))
        rows = np.einsum("ial,ilp->iap", signs, tokens).reshape(-1, P) / np.sqrt(count)
        gram = rows.T @ rows
        values, share = np.linalg.eigvalsh(gram), 1.0
        for _ in range(60):
            share = 1 - np.sum(values / (values + RIDGE * share)) / (N * count)
        one = -gradients @ np.linalg.solve(gram + RIDGE * np.eye(P), queries.T)
        other = -share * gradients @ np.linalg.solve(gram + share * RIDGE * np.eye(P), queries.T)
        plain, corrected = plain + one / DRAWS, corrected + other / DRAWS
        ranks += [np.corrcoef(found.ravel(), exact.ravel())[0, 1] / DRAWS for found in (one, other)]

    def bias(found):
        return np.linalg.norm(found - exact) / np.linalg.norm(exact)

    assert bias(corrected) < 0.03
    assert bias(plain) > 0.06
    assert bias(plain) > 2.5 * bias(corrected)
    assert ranks[0] > ranks[1]  # of one draw the smaller ridge makes more noise than it repairs
