"""The law of TRAK scores over random projections: means, standard deviations and intervals against repeated draws.

The law is exact up to O(1/(k − df₂)), so that a comparison allows for BIAS beside four standard errors.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import digits_features
from support.problems import seeds

from trak_theory import Linearization, influence, projection_matrix, trak
from trak_theory.attribution import trak_kernel
from trak_theory.numerics.spectrum import implicit_ridge, spectrum, spectrum_from_gram
from trak_theory.projection.error_bars import projection_law
from trak_theory.projection.kernel_law import KernelLaw

DRAWS = 100
BIAS = 0.03  # of a standard deviation, relative


def draws_of(lin, *, k, ridge, kind="normal", ensemble=1, count=DRAWS, seed=0):
    """Scores (count, n, q) of independent draws, by plain normal equations."""
    rng = np.random.default_rng(seed)
    p = lin.features.shape[1]
    scores = np.zeros((count, len(lin.features), len(lin.queries)))
    for draw in scores:
        for _ in range(ensemble):
            matrix = projection_matrix(p, k, kind=kind, rng=rng)
            features, queries = lin.features @ matrix, lin.queries @ matrix
            gram = features.T @ features + ridge * np.eye(k)
            draw -= lin.residual[:, None] * (features @ np.linalg.solve(gram, queries.T)) / ensemble
    return scores


def test_the_draws_are_those_of_trak():
    lin = digits_features.random_features()
    (child,) = np.random.default_rng(7).spawn(1)
    children = child.spawn(2)
    matrices = [projection_matrix(lin.features.shape[1], 30, rng=c) for c in children]
    expected = 0.0
    for matrix in matrices:
        features, queries = lin.features @ matrix, lin.queries @ matrix
        kernel = features @ np.linalg.solve(features.T @ features + 0.5 * np.eye(30), queries.T)
        expected = expected - lin.residual[:, None] * kernel / 2
    (again,) = np.random.default_rng(7).spawn(1)
    np.testing.assert_allclose(trak(lin, k=30, ensemble=2, ridge=0.5, rng=again), expected, rtol=1e-8, atol=1e-12)


def mean_and_error(values):
    return values.mean(), values.std(ddof=1) / np.sqrt(values.size)


def check(draws, law):
    """Slope on the predicted mean 1, spread of z-scores 1, coverage .95; one value per draw makes the error."""
    slope, slope_error = mean_and_error(np.sum(draws * law.mean, (1, 2)) / np.sum(law.mean**2))
    square, square_error = mean_and_error(np.mean(((draws - law.mean) / law.sd) ** 2, (1, 2)))
    low, high = law.interval()
    cover, cover_error = mean_and_error(np.mean((low < draws) & (draws < high), (1, 2)))
    assert abs(slope - 1) < 4 * slope_error + 0.01
    assert abs(np.sqrt(square) - 1) < 4 * square_error / 2 + BIAS
    assert abs(cover - 0.95) < 4 * cover_error + 0.01


def features_named(name):
    return digits_features.random_features() if name == "random features" else digits_features.network_gradients()


@pytest.mark.parametrize("features", ["random features", "network gradients"])
@pytest.mark.parametrize(("k_over_n", "ridge"), [(0.2, 0.0), (0.6, 0.0), (0.9, 0.0), (0.6, 0.05), (1.2, 0.05)])
def test_means_spreads_and_intervals(features, k_over_n, ridge):
    lin = features_named(features)
    n = len(lin.features)
    k = round(k_over_n * n)
    ridge = ridge * np.sum(lin.features**2) / n
    law = projection_law(lin, k=k, ridge=ridge)
    assert law.diagnosis == ""
    check(draws_of(lin, k=k, ridge=ridge), law)


def test_controls_explicit_ridge_and_raw_dimension_are_refuted():
    lin = digits_features.random_features()
    k, ridge = 135, 0.0
    law = projection_law(lin, k=k)
    draws = draws_of(lin, k=k, ridge=ridge)
    with pytest.raises(AssertionError):  # centred at the explicit ridge: no shrinkage by the projection
        check(draws, replace(law, mean=influence(trak_kernel(lin, ridge=1e-9))))
    freedom = KernelLaw(spectrum(lin.features, lin.queries), k).residual_degrees_of_freedom
    with pytest.raises(AssertionError):  # k for k − df₂
        check(draws, replace(law, sd=law.sd * np.sqrt(freedom / k)))


def test_averaging_projections():
    lin = digits_features.random_features()
    single, several = projection_law(lin, k=40), projection_law(lin, k=40, ensemble=4)
    np.testing.assert_allclose(several.sd, single.sd / 2, rtol=1e-12)
    check(draws_of(lin, k=40, ridge=0.0, ensemble=4, count=80), several)


def one_hot(n=200, levels=60, q=20):
    rng = np.random.default_rng(3)
    rows = np.eye(levels)[rng.integers(0, levels, n + q)]
    return Linearization(rows[:n], np.ones(n), np.ones(n), 0.0, rows[n:])


@pytest.mark.parametrize("kind", ["normal", "rademacher", "sparse"])
def test_signs_differ_where_gradients_share_one_coordinate(kind):
    lin, k = one_hot(), 24
    shared = lin.features @ lin.queries.T > 0
    spread = draws_of(lin, k=k, ridge=2.0, kind=kind, count=300)[:, shared].std(0)
    law, normal = projection_law(lin, k=k, ridge=2.0, kind=kind), projection_law(lin, k=k, ridge=2.0)
    # 300 draws: 4 % on each standard deviation, and O(1/k) of the law.
    assert np.median(spread / law.sd[shared]) == pytest.approx(1.0, abs=0.06)
    if kind != "normal":
        assert np.median(spread / normal.sd[shared]) < 0.6
        others = ~shared
        np.testing.assert_allclose(law.sd[others], normal.sd[others], rtol=1e-6)


@given(seed=seeds, n=st.integers(2, 30), p=st.integers(2, 30), scale=st.sampled_from([1e-6, 1.0, 1e6]))
def test_implicit_ridge_solves_its_equation(seed, n, p, scale):
    rng = np.random.default_rng(seed)
    eigenvalues = scale * rng.lognormal(0, 3, min(n, p))
    k, ridge = int(rng.integers(1, p + 1)), float(rng.choice([0.0, scale * rng.lognormal(0, 3)]))
    root = implicit_ridge(eigenvalues, k, ridge)
    if root == 0:
        assert ridge == 0
        assert k >= eigenvalues.size
    else:
        freedom = np.sum(eigenvalues / (eigenvalues + root))
        assert root * (1 - freedom / k) == pytest.approx(ridge, rel=1e-9, abs=1e-10 * root)


@given(seed=seeds, n=st.integers(3, 20), p=st.integers(2, 20))
def test_primal_and_dual_agree(seed, n, p):
    rng = np.random.default_rng(seed)
    features, queries = rng.standard_normal((n, p)), rng.standard_normal((4, p))
    k = int(rng.integers(1, p + 1))
    direct = KernelLaw(spectrum(features, queries), k, 2, 0.5)
    gram = spectrum_from_gram(features @ features.T, features @ queries.T, np.sum(queries**2, 1), p)
    dual = KernelLaw(gram, k, 2, 0.5)
    assert dual.implicit_ridge == pytest.approx(direct.implicit_ridge, rel=1e-10)
    for quantity in ("mean", "variance", "square"):
        expected = getattr(direct, quantity)
        np.testing.assert_allclose(getattr(dual, quantity), expected, atol=1e-10 * np.abs(expected).max())


def test_the_formulas_by_dense_matrices():
    rng = np.random.default_rng(5)
    for n, p in ((30, 12), (12, 30)):
        lin = Linearization(
            rng.standard_normal((n, p)), rng.standard_normal(n), np.ones(n), 0.0, rng.standard_normal((3, p))
        )
        k, ensemble, ridge = 8, 3, 0.7
        law = projection_law(lin, k=k, ensemble=ensemble, ridge=ridge)
        gram, gamma = lin.features.T @ lin.features, law.implicit_ridge
        inverse = np.linalg.inv(gram + gamma * np.eye(p))
        df, df2 = np.trace(gram @ inverse), np.trace(gram @ inverse @ gram @ inverse)
        assert law.effective_dimension == pytest.approx(df)
        assert ridge == pytest.approx(gamma * (1 - df / k))
        squared = inverse @ inverse
        own = np.einsum("ip,pq,iq->i", lin.features, squared, lin.features)
        theirs = np.einsum("ip,pq,iq->i", lin.queries, squared, lin.queries)
        cross = lin.features @ squared @ lin.queries.T
        variance = gamma**2 / (k - df2) / ensemble * (np.outer(own, theirs) + cross**2)
        np.testing.assert_allclose(law.mean, -lin.residual[:, None] * (lin.features @ inverse @ lin.queries.T))
        np.testing.assert_allclose(law.sd, np.abs(lin.residual)[:, None] * np.sqrt(variance))


def test_a_square_projection_loses_nothing():
    rng = np.random.default_rng(0)
    lin = Linearization(rng.standard_normal((40, 10)), np.ones(40), np.ones(40), 0.0, rng.standard_normal((3, 10)))
    law = projection_law(lin, k=10)
    assert law.diagnosis == ""
    assert law.implicit_ridge == 0
    np.testing.assert_allclose(law.mean, influence(trak_kernel(lin)), rtol=1e-10)
    assert not law.sd.any()
    np.testing.assert_allclose(trak(lin, k=10, rng=rng), law.mean, rtol=1e-6)


def test_diagnosis_in_words():
    lin = digits_features.random_features()
    n = len(lin.features)
    beyond = projection_law(lin, k=n + 20)
    assert f"rank {n}" in beyond.diagnosis
    assert "rounding noise" in beyond.diagnosis
    assert np.isnan(beyond.mean).all()
    assert np.isnan(beyond.sd).all()
    at_rank = projection_law(lin, k=n)
    assert "infinite" in at_rank.diagnosis
    assert np.isinf(at_rank.sd).all()
    for size in (1e-8, 1e8):  # of queries outside the span, however short or long
        assert np.isinf(projection_law(replace(lin, queries=size * lin.queries), k=n).sd).all()
    assert not projection_law(replace(lin, queries=0 * lin.queries), k=n).sd.any()
    assert "k − df₂" in projection_law(lin, k=n - 1).diagnosis
    assert "larger k" in projection_law(lin, k=2).diagnosis
    assert projection_law(lin, k=n + 20, ridge=1.0).diagnosis == ""


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"k": 251}, "k = 251 exceeds p = 250"),
        ({"k": 0}, "k must be at least 1"),
        ({"k": 5, "ensemble": 0}, "ensemble must be at least 1"),
        ({"k": 5, "ridge": -1.0}, "projected ridge must be finite and ≥ 0, got -1.0"),
        ({"k": 5, "ridge": np.nan}, "projected ridge must be finite"),
        ({"k": 5, "kind": "gauss"}, "unknown projection 'gauss'"),
    ],
)
def test_wrong_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        projection_law(digits_features.random_features(), **setting)
    with pytest.raises(TypeError, match="positional"):
        projection_law(digits_features.random_features(), *setting.values())
