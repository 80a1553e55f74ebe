"""The rank law of a fitted model: predicted agreement against TRAK with many projections."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kendalltau, rankdata, spearmanr
from support import digits_features

from trak_theory import GLM, Linearization, agreement, newton, trak
from trak_theory.attribution import trak_kernel
from trak_theory.laws.conditional_rank_law import (
    RandomScores,
    conditional_rank_law,
    rank_law_against,
    spread_triples,
)
from trak_theory.numerics.spectrum import spectrum
from trak_theory.projection.kernel_law import KernelLaw

DRAWS = 20
MEASURES = ("pearson", "kendall", "spearman", "slope")


def fitted(n, p, *, ridge=2.0, loss="logistic", seed=0, q=12):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, p))
    output = rows @ rng.standard_normal(p) * 2 / np.sqrt(p)
    noise = rng.random(n)
    targets = (noise < 1 / (1 + np.exp(-output))).astype(float) if loss == "logistic" else output + noise
    return GLM(rows, targets, loss=loss, ridge=ridge).fit().linearize(rng.standard_normal((q, p)))


def simulated(reference, lin, measure, **settings):
    """Mean over projections of the mean over queries, and its standard error over projections."""
    children = np.random.default_rng(1).spawn(DRAWS)
    values = [getattr(agreement(reference, trak(lin, rng=child, **settings)), measure) for child in children]
    return np.mean(values), np.std(values, ddof=1) / np.sqrt(DRAWS)


def some_queries(lin, count=15):
    return replace(lin, queries=lin.queries[:count])


SETTINGS = [
    ((200, 80, 50), {}),
    ((200, 80, 40), {"ensemble": 3, "ridge": 5.0}),
    ((120, 240, 90), {"ridge": 10.0}),
    ((200, 80, 50), {"loss": "squared"}),
]


@pytest.mark.parametrize(("shape", "extra"), SETTINGS)
def test_against_newton_for_the_given_queries(shape, extra):
    n, p, k = shape
    lin = fitted(n, p, loss=extra.get("loss", "logistic"))
    settings = {"k": k, **{name: value for name, value in extra.items() if name != "loss"}}
    law, reference = conditional_rank_law(lin, **settings), newton(lin)
    for measure in MEASURES:
        mean, error = simulated(reference, lin, measure, **settings)
        predicted = getattr(law, measure)
        allowance = 0.012 * max(abs(mean), 0.3 if measure != "slope" else 0)  # O(1/k) of the law
        sampling = 4 * getattr(predicted, "se", 0.0)
        assert abs(predicted - mean) < 3.5 * error + allowance + sampling, measure


def test_against_newton_for_gaussian_queries():
    """Fresh queries with a decaying covariance: error over queries and over projections."""
    lin = fitted(200, 60, q=1)
    covariance = np.diag(np.arange(1, 61) ** -0.7)
    law = conditional_rank_law(lin, k=40, query_covariance=covariance)
    rng = np.random.default_rng(2)
    rows = []
    for child in rng.spawn(DRAWS):
        fresh = replace(lin, queries=child.standard_normal((40, 60)) * np.sqrt(np.diag(covariance)))
        found = agreement(newton(fresh), trak(fresh, k=40, rng=child))
        rows.append([getattr(found, measure) for measure in MEASURES])
    mean, error = np.mean(rows, 0), np.std(rows, axis=0, ddof=1) / np.sqrt(DRAWS)
    for measure, value, se in zip(MEASURES, mean, error, strict=True):
        assert abs(getattr(law, measure) - value) < 3.5 * se + 0.015 * max(value, 0.3), measure


def test_the_variance_of_a_difference_is_that_of_the_law():
    """Var(T_i − T_i′) = c [|R(r_iφ_i − r_i′φ_i′)|² φ*ᵀR²φ* + ((r_iφ_i − r_i′φ_i′)ᵀR²φ*)²], from dense matrices."""
    lin = fitted(9, 30, q=4)
    law = KernelLaw(spectrum(lin.features, lin.queries), 5, ensemble=2, ridge=0.3)
    inverse = np.linalg.inv(lin.features.T @ lin.features + law.implicit_ridge * np.eye(30))
    rows, queries = lin.residual[:, None] * lin.features @ inverse, lin.queries @ inverse
    first, second = np.array([0, 3, 8]), np.array([5, 1, 2])
    apart = rows[first] - rows[second]
    expected = law.noise * (np.outer(np.sum(apart**2, 1), np.sum(queries**2, 1)) + (apart @ queries.T) ** 2)
    mean, variance = RandomScores(lin.residual, law, np.ones(9, bool)).differences(first, second)
    np.testing.assert_allclose(variance, expected, rtol=1e-10)
    np.testing.assert_allclose(mean, -apart @ lin.queries.T, rtol=1e-10)


def test_isotropic_queries_two_ways():
    """Σ given, and its square root as the queries of the same aggregate."""
    lin = fitted(150, 40)
    root = np.random.default_rng(0).standard_normal((40, 40))
    given = conditional_rank_law(lin, k=25, query_covariance=root.T @ root)
    pseudo = replace(lin, queries=root)
    law = KernelLaw(spectrum(pseudo.features, pseudo.queries), 25)
    direct = rank_law_against(newton(pseudo), pseudo.residual, law, gaussian=True)
    for measure in MEASURES:
        assert getattr(given, measure) == pytest.approx(getattr(direct, measure), rel=1e-8)


@pytest.mark.parametrize("setting", [{"k": 60}, {"k": 135}, {"k": 180, "ridge": 20.0}])
def test_real_features_against_the_same_implicit_ridge(setting):
    """Networks' gradients cluster and scores are heavy-tailed: (2/π) asin Pearson overshoots, the law does not."""
    lin = some_queries(digits_features.network_gradients())
    law = KernelLaw(spectrum(lin.features, lin.queries), setting["k"], 1, setting.get("ridge", 0.0))
    reference = -lin.residual[:, None] * law.mean
    predicted = rank_law_against(reference, lin.residual, law)
    kendall, kendall_error = simulated(reference, lin, "kendall", **setting)
    pearson, pearson_error = simulated(reference, lin, "pearson", **setting)
    assert abs(predicted.kendall - kendall) < 3.5 * kendall_error + 4 * predicted.kendall.se + 0.01
    assert abs(predicted.pearson - pearson) < 3.5 * pearson_error + 0.02
    assert 2 / np.pi * np.arcsin(predicted.pearson) > predicted.kendall + 0.01


def test_control_wrong_unit_of_the_projected_ridge():
    """A ridge in the wrong unit (off by tens, as p/k is for networks) is visible in Kendall."""
    lin = some_queries(digits_features.network_gradients())
    k, p, ridge = 135, lin.features.shape[1], 5.0
    space = spectrum(lin.features, lin.queries)
    reference = -lin.residual[:, None] * KernelLaw(space, k, 1, ridge).mean
    measured, error = simulated(reference, lin, "kendall", k=k, ridge=ridge)
    right = rank_law_against(reference, lin.residual, KernelLaw(space, k, 1, ridge)).kendall
    wrong = rank_law_against(reference, lin.residual, KernelLaw(space, k, 1, ridge * p / k * 30)).kendall
    assert abs(right - measured) < 3.5 * error + 0.01
    assert abs(wrong - measured) > 3.5 * error + 0.01


def test_a_lossless_projection_agrees_with_its_own_kernel():
    lin = fitted(60, 12)
    law = KernelLaw(spectrum(lin.features, lin.queries), 12)
    perfect = rank_law_against(-lin.residual[:, None] * law.mean, lin.residual, law)
    assert [perfect.pearson, perfect.kendall, perfect.slope] == pytest.approx([1.0] * 3)
    assert abs(perfect.spearman - 1) < 4 * perfect.spearman.se


def test_a_reversed_reference_agrees_with_nothing_in_gaussian_queries():
    lin = fitted(60, 12)
    law = KernelLaw(spectrum(lin.features, np.eye(12)), 12)
    opposite = rank_law_against(lin.residual[:, None] * law.mean, lin.residual, law, gaussian=True)
    assert [opposite.pearson, opposite.kendall, opposite.slope] == pytest.approx([-1.0] * 3)


def test_without_noise_the_ranks_are_those_of_the_means():
    """k = p: Kendall and Spearman from triples against scipy's on all points."""
    lin = fitted(150, 12)
    kernel = trak_kernel(lin)
    law = KernelLaw(spectrum(lin.features, lin.queries), 12)
    reference = newton(lin)
    predicted = rank_law_against(reference, lin.residual, law)
    estimate = -kernel.residual[:, None] * kernel.cross
    kendall = np.mean([kendalltau(a, b).statistic for a, b in zip(reference.T, estimate.T, strict=True)])
    spearman = np.mean([spearmanr(a, b).statistic for a, b in zip(reference.T, estimate.T, strict=True)])
    assert abs(predicted.kendall - kendall) < 4 * predicted.kendall.se
    assert abs(predicted.spearman - spearman) < 4 * predicted.spearman.se


def test_ranks_of_few_points_with_ties():
    """τ_b of scipy, and the covariance of midranks over that without ties: 12 Σ R̃_i S̃_i/(n³ − n); zero rows tie."""
    rows, rng = np.random.default_rng(0).standard_normal((12, 3)), np.random.default_rng(1)
    rows[:4] = 0
    lin = Linearization(rows, np.ones(12), np.ones(12), 1.0, rng.standard_normal((30, 3)))
    law = KernelLaw(spectrum(lin.features, lin.queries), 3)
    reference = np.exp(0.3 * rng.standard_normal(law.mean.shape) - law.mean) * rows.any(1, keepdims=True)
    predicted, scores = rank_law_against(reference, lin.residual, law), -law.mean.round(12)
    kendall = np.mean([kendalltau(a, b).statistic for a, b in zip(reference.T, scores.T, strict=True)])
    midranks = (rankdata(each, axis=0) - 6.5 for each in (reference, scores))
    assert predicted.kendall == pytest.approx(kendall, abs=0.01)
    assert predicted.spearman == pytest.approx(12 * np.sum(np.multiply(*midranks), 0).mean() / (12**3 - 12), abs=0.01)


def test_triples_are_distinct_and_even():
    for n in (3, 10, 1000):
        triples = spread_triples(n)
        assert np.all((triples >= 0) & (triples < n))
        assert np.all(triples[0] != triples[1])
        assert np.all(triples[0] != triples[2])
        assert np.all(triples[1] != triples[2])
        counts = np.bincount(triples[0], minlength=n)
        assert counts.max() - counts.min() < 0.1 * counts.mean() + 12


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 70}, "no rank law applies"),
        ({"k": 20, "query_covariance": np.eye(3)}, r"query_covariance has shape \(3, 3\), the features have p = 80"),
        ({"k": 20, "query_covariance": -np.eye(80)}, "must be positive semi-definite"),
        ({"k": 20, "query_covariance": np.diag([1.0] * 79 + [-1e-3])}, "must be positive semi-definite"),
        ({"k": 20, "query_covariance": np.zeros((80, 80))}, r"its eigenvalues span \[0, 0\]"),
        ({"k": 20, "query_covariance": np.triu(np.ones((80, 80)))}, "not symmetric"),
        ({"k": 81}, "k = 81 exceeds p = 80"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        conditional_rank_law(fitted(60, 80, ridge=1.0), **settings)


def test_points_without_a_reference_are_left_out():
    lin = fitted(60, 12)
    law = KernelLaw(spectrum(lin.features, lin.queries), 8)
    reference = newton(lin)
    holes = reference.copy()
    holes[:5] = np.nan
    part = Linearization(lin.features, lin.residual, lin.curvature, lin.ridge, lin.queries)
    found = rank_law_against(holes, part.residual, law)
    assert np.isfinite(found.kendall)
    with pytest.raises(TypeError, match="positional"):
        rank_law_against(holes, part.residual, law, True)
    with pytest.raises(ValueError, match="at least 3 points"):
        rank_law_against(np.full_like(reference, np.nan), lin.residual, law)
