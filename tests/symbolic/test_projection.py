"""Exact moments of the projected kernel: against Monte Carlo, and against the general formulas that they pin."""

import numpy as np
import pytest
import sympy as sp

from trak_theory.claims.limits import projected_kernels
from trak_theory.projection.matrices import projection_matrix
from trak_theory.symbolic.notation import k, mu, p, verify
from trak_theory.symbolic.projection import (
    ACROSS,
    ALONG,
    eigenvalues,
    isotropic_second_moments,
    isotropic_variance_general,
    large_ridge_mean,
    plane_mean,
    plane_square_moments,
    plane_square_moments_general,
    ridge_slope,
    second_moment_general,
    sketch_moments,
    variance_general,
)

SIZES = [(rows, columns) for rows in (2, 3) for columns in (1, 2, 3)]
Z_LIMIT = 4.0


def z_score(samples, expected):
    return (samples.mean() - expected) / (samples.std(ddof=1) / np.sqrt(samples.size))


@pytest.mark.parametrize(("rows", "columns"), SIZES)
def test_general_gaussian_moments_hold_entry_by_entry(rows, columns):
    exact = sketch_moments(rows, columns)
    assert exact["first"] == sp.eye(rows)
    assert (exact["second"] - second_moment_general(rows, columns)).applyfunc(sp.expand) == sp.zeros(rows, rows)
    assert sp.expand(exact["variance"] - variance_general(columns)) == 0


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (3, 1)])
def test_gaussian_moments_against_monte_carlo(rows, columns):
    rng = np.random.default_rng(rows)
    draws = 20_000
    sketches = rng.standard_normal((draws, rows, columns)) / np.sqrt(columns)
    grams = sketches @ sketches.transpose(0, 2, 1)
    spectrum = np.array([3.0, 0.5, 1.5])[:rows]
    exact = sketch_moments(rows, columns)
    values = dict(zip(eigenvalues(rows), spectrum, strict=True))
    second = (grams * spectrum) @ grams
    assert abs(z_score(second[:, 0, 0], float(exact["second"][0, 0].subs(values)))) < Z_LIMIT
    scores = 0.7 * grams[:, 0, 0] + 1.2 * grams[:, 0, 1]
    variance = float(exact["variance"].subs({ALONG: 0.7, ACROSS: 1.2}))
    assert abs(z_score((scores - 0.7) ** 2, variance)) < Z_LIMIT


def test_the_code_draws_projections_of_that_scale():
    draws = np.array([projection_matrix(3, 2, rng=rng) for rng in np.random.default_rng(0).spawn(4000)])
    assert abs(z_score((draws[:, 0] ** 2).sum(1), 1.0)) < Z_LIMIT
    assert abs(z_score((draws[:, 0] ** 2).sum(1), 1.5)) > Z_LIMIT


@pytest.mark.parametrize("rows", [2, 3])
def test_large_ridge_mean_differs_from_the_exact_one_by_the_known_term(rows):
    """E K₁₁ = 1/μ − (E PPᵀSPPᵀ)₁₁/μ² + …: the general formula leaves out s₁/(kμ²)."""
    exact = 1 / mu - second_moment_general(rows, k)[0, 0] / mu**2
    first = eigenvalues(rows)[0]
    rng = np.random.default_rng(rows)
    assert verify(large_ridge_mean(rows) - exact, first / (k * mu**2), rng=rng)
    assert not verify(large_ridge_mean(rows), exact, rng=rng)


def test_second_formula_is_the_derivative_of_the_first():
    assert verify(*ridge_slope(3), rng=np.random.default_rng(0))


def test_isotropic_projector():
    draws = projected_kernels(np.ones(4), 2, np.random.default_rng(1))
    same, other = (float(value.subs({p: 4, k: 2})) for value in isotropic_second_moments())
    assert abs(z_score(draws[:, 0, 0], 0.5)) < Z_LIMIT
    assert abs(z_score(draws[:, 0, 0] ** 2, same + 2 * other)) < Z_LIMIT
    assert abs(z_score(draws[:, 0, 0] * draws[:, 1, 1], same)) < Z_LIMIT
    assert abs(z_score(draws[:, 0, 1] ** 2, other)) < Z_LIMIT
    general = float(isotropic_variance_general().subs({p: 4, k: 2}))
    assert abs(z_score(draws[:, 0, 1] ** 2, general)) > Z_LIMIT  # 4 dimensions are not many


def test_general_variance_becomes_exact_in_high_dimension():
    share, size = sp.Symbol("share", positive=True), sp.Symbol("size", positive=True)
    ratio = (isotropic_variance_general() / isotropic_second_moments()[1]).subs({k: share * size, p: size})
    assert sp.limit(sp.simplify(ratio), size, sp.oo) == 1


def test_general_formulas_are_exact_in_the_plane():
    rng = np.random.default_rng(2)
    assert verify(*plane_mean(), rng=rng)
    for exact, general in zip(plane_square_moments(), plane_square_moments_general(), strict=True):
        assert verify(exact, general, rng=rng)
    assert not verify(plane_square_moments()[0], plane_mean()[1] ** 2, rng=rng)


def test_plane_against_monte_carlo():
    spectrum = np.array([5.0, 0.3])
    draws = projected_kernels(spectrum, 1, np.random.default_rng(3))
    values = dict(zip(eigenvalues(2), spectrum, strict=True))
    same, other = (float(moment.subs(values)) for moment in plane_square_moments())
    assert abs(z_score(draws[:, 0, 0], float(plane_mean()[1].subs(values)))) < Z_LIMIT
    assert abs(z_score(draws[:, 0, 0] ** 2, same)) < Z_LIMIT
    assert abs(z_score(draws[:, 0, 1] ** 2, other)) < Z_LIMIT
