"""Simulated scores against the moments of their law, and which of its two forms is drawn."""

import numpy as np
import pytest

from trak_theory.auditing.checking import score_draws
from trak_theory.auditing.checking.score_draws import ScoreDraws
from trak_theory.numerics.spectrum import spectrum
from trak_theory.projection.kernel_law import KernelLaw

N, Q, P, K, ENSEMBLE, RIDGE = 4, 3, 12, 3, 2, 0.3
CHOSEN = np.array([0, 2, 3])


def case():
    """Features (n, p), queries (q, p) that are not in their span, residuals, and the draws of three of the points."""
    rng = np.random.default_rng(3)
    features, queries = rng.standard_normal((N, P)) / 3, rng.standard_normal((Q, P)) / 3
    residual = rng.standard_normal(N)
    law = KernelLaw(spectrum(features, queries), K, ENSEMBLE, RIDGE)
    return features, queries, residual, ScoreDraws(law, residual, queries @ queries.T, CHOSEN, np.arange(Q))


def drawn(draws, count, work, monkeypatch):
    monkeypatch.setattr(score_draws, "MOST_WORK", work)
    return np.array(list(draws(count, np.random.default_rng(5))))


def test_the_normal_limit_has_the_mean_and_the_covariance_of_the_law(monkeypatch):
    """Cov(T_ij, T_kl) = r_i r_k (c/J) [(φ_iR²φ_k)(φ*_jR²φ*_l) + (φ_iR²φ*_l)(φ_kR²φ*_j)], to five standard errors."""
    features, queries, residual, draws = case()
    law, count = draws.law, 20_000
    sample = drawn(draws, count, 0, monkeypatch).reshape(count, -1)
    inverse = np.linalg.inv(features.T @ features + law.implicit_ridge * np.eye(P))
    features, residual = features[CHOSEN], residual[CHOSEN]
    mean = -residual[:, None] * (features @ inverse @ queries.T)
    square = inverse @ inverse
    among, between, mixed = features @ square @ features.T, queries @ square @ queries.T, features @ square @ queries.T
    covariance = np.einsum("ik,jl->ijkl", among, between) + np.einsum("il,kj->ijkl", mixed, mixed)
    covariance *= law.noise * residual[:, None, None, None] * residual[:, None]
    covariance = covariance.reshape(sample.shape[1], -1)
    sd = np.sqrt(np.diag(covariance))
    assert np.abs((sample.mean(0) - mean.ravel()) / sd).max() < 5 / np.sqrt(count)
    products = np.einsum("di,dj->dij", (sample - mean.ravel()) / sd, (sample - mean.ravel()) / sd)
    error = (products.mean(0) - covariance / np.outer(sd, sd)) / products.std(0)
    assert np.abs(error).max() < 5 / np.sqrt(count)


@pytest.mark.parametrize(("less", "limit"), [(0, False), (1, True)])
def test_the_projection_itself_is_drawn_up_to_a_work_of_m_k_squared(less, limit, monkeypatch):
    draws = case()[-1]
    work = N * K**2 * ENSEMBLE
    given = drawn(draws, 2, work - less, monkeypatch)
    forms = [drawn(draws, 2, most, monkeypatch) for most in (np.inf, 0)]
    assert not np.allclose(*forms)
    np.testing.assert_array_equal(given, forms[limit])
