"""ranked_with_confidence keeps its promise over fresh projections, and is not vacuous."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.preprocessing import StandardScaler

from trak_theory import GLM, Linearization, leave_one_out, newton, ranked_with_confidence, trak
from trak_theory.laws.confidence import _place
from trak_theory.loo.certified_order import proved_pairs_in_order
from trak_theory.loo.intervals import Interval

REPETITIONS = 100


def synthetic(seed, n, p, loss, ridge, decay=0.0, density=1.0):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n, p)) * np.arange(1, p + 1) ** -decay
    features *= (rng.random((n, p)) < density) / np.sqrt(density)
    outputs = features @ rng.standard_normal(p) / np.sqrt(p)
    targets = {
        "logistic": (rng.random(n) < 1 / (1 + np.exp(-outputs))).astype(float),
        "poisson": rng.poisson(np.exp(0.5 * outputs)).astype(float),
        "squared": outputs + rng.standard_normal(n),
    }[loss]
    return GLM(features, targets, loss=loss, ridge=ridge).fit(), rng.standard_normal((5, n)) @ features / np.sqrt(n)


def digits(ridge):
    pixels, labels = load_digits(return_X_y=True)
    chosen = np.isin(labels, (3, 8))
    rows, targets = pixels[chosen][:150] / 16, (labels[chosen][:150] == 8).astype(float)
    return GLM(rows, targets, loss="logistic", ridge=ridge).fit(), pixels[chosen][150:155] / 16


def cancer(ridge):
    rows, labels = load_breast_cancer(return_X_y=True)
    rows = StandardScaler().fit_transform(rows)
    return GLM(rows[:150], labels[:150].astype(float), loss="logistic", ridge=ridge).fit(), rows[150:155]


# (fit and queries, k, projections averaged, μ)
SETTINGS = {
    "small": (lambda: synthetic(0, 100, 20, "logistic", 1.0), 10, 1, 1.0),
    "ensemble": (lambda: synthetic(1, 100, 20, "squared", 1.0), 16, 4, 0.0),
    "k near p": (lambda: synthetic(2, 150, 60, "logistic", 5.0), 45, 1, 0.0),
    "counts": (lambda: synthetic(3, 150, 60, "poisson", 5.0), 30, 2, 10.0),
    "p > n": (lambda: synthetic(4, 120, 200, "logistic", 10.0), 80, 1, 5.0),
    "decaying": (lambda: synthetic(5, 120, 200, "logistic", 10.0, decay=0.6), 60, 1, 1.0),
    "sparse": (lambda: synthetic(6, 150, 80, "logistic", 2.0, density=0.1), 50, 1, 0.0),
    "wide": (lambda: synthetic(7, 100, 300, "squared", 20.0), 90, 1, 20.0),
    "decaying counts": (lambda: synthetic(8, 200, 40, "poisson", 1.0, decay=0.6), 28, 1, 0.0),
    "digits": (lambda: digits(1.0), 30, 1, 1.0),
    "cancer": (lambda: cancer(1.0), 15, 1, 1.0),
    "cancer, small ridge": (lambda: cancer(0.1), 20, 4, 0.1),
}


def covered(name, method, seed):
    """How many of 100 fresh projections reach the promised share; with it the answer and what they reach."""
    make, k, ensemble, ridge = SETTINGS[name]
    fit, queries = make()
    rng = np.random.default_rng(seed)
    setting = {"k": k, "ensemble": ensemble, "ridge": ridge}
    answer = ranked_with_confidence(fit, queries=queries, method=method, rng=rng, **setting)
    lin, exact = fit.linearize(queries), leave_one_out(fit, queries)
    truth = Interval(exact.influence, exact.radius)
    fresh = [proved_pairs_in_order(truth, trak(lin, rng=rng, **setting)).mean() for _ in range(REPETITIONS)]
    return sum(share >= answer.share for share in fresh), answer, np.array(fresh)


@pytest.mark.parametrize("name", ["p > n", "digits"])
def test_the_promise_is_kept_and_the_expected_share_is_right(name):
    kept, answer, fresh = covered(name, "law", seed=1)
    assert kept >= 99
    se = fresh.std(ddof=1) / np.sqrt(REPETITIONS)
    assert abs(answer.expected - fresh.mean()) < 4 * se + 0.004


@pytest.mark.slow
@pytest.mark.parametrize("method", ["law", "draws"])
def test_the_promise_is_kept_on_twelve_settings(method):
    kept = {name: covered(name, method, seed=2)[0] for name in SETTINGS}
    assert min(kept.values()) >= 97  # of 100, each with a probability ≥ .99
    assert sum(kept.values()) >= 0.99 * REPETITIONS * len(SETTINGS)


def test_it_is_not_vacuous_where_the_projection_is_wide():
    fit, queries = synthetic(4, 120, 200, "logistic", 60.0)
    lin = fit.linearize(queries)
    freedom = np.linalg.eigvalsh(lin.features @ lin.features.T)
    k = 4 * round(float((freedom / (freedom + 300.0)).sum()))
    answer = ranked_with_confidence(fit, queries=queries, k=min(k, 200), ridge=225.0, rng=np.random.default_rng(0))
    exact = leave_one_out(fit, queries)
    truth = Interval(exact.influence, exact.radius)
    scores = trak(lin, k=min(k, 200), ridge=225.0, rng=np.random.default_rng(1))
    assert answer.share >= 0.9 * proved_pairs_in_order(truth, scores).mean()
    assert answer.proved > 0.999


def test_the_simulated_law_has_the_covariances_of_projections():
    """Also between two queries, which no variance of a single score shows."""
    fit, queries = synthetic(4, 60, 120, "logistic", 10.0)
    lin = fit.linearize(queries[:2])
    from trak_theory.laws.confidence import _of_projections, _of_the_law
    from trak_theory.numerics.spectrum import spectrum
    from trak_theory.projection.kernel_law import KernelLaw

    law = KernelLaw(spectrum(lin.features, lin.queries), 50, 1, 5.0)
    rng = np.random.default_rng(0)
    simulated = _of_the_law(law, lin.residual, rng)
    real = _of_projections(lin, 50, 1, 5.0, rng)
    pairs = [np.array([next(scores)[:8].ravel() for _ in range(2500)]) for scores in (simulated, real)]
    covariance = [np.cov(draws.T) for draws in pairs]
    scale = np.sqrt(np.outer(np.diag(covariance[1]), np.diag(covariance[1])))
    assert np.abs((covariance[0] - covariance[1]) / scale).max() < 0.17
    assert np.sqrt(np.mean(((covariance[0] - covariance[1]) / scale) ** 2)) < 0.037
    independent = np.diag(np.diag(covariance[1]))
    assert np.sqrt(np.mean(((independent - covariance[1]) / scale) ** 2)) > 0.055


def test_pairs_that_no_interval_proves_count_for_nothing():
    rng = np.random.default_rng(0)
    estimate, center = rng.standard_normal((20, 3)), rng.standard_normal((20, 3))
    exact = Interval(center, np.zeros((20, 3)))
    wide = Interval(center, np.full((20, 3), np.inf))
    ordered = np.sign(estimate[:, None] - estimate) == np.sign(center[:, None] - center)
    assert np.allclose(proved_pairs_in_order(exact, estimate), (ordered.sum((0, 1)) - 20) / 380)
    assert not proved_pairs_in_order(wide, estimate).any()


def test_a_linearisation_is_held_against_one_newton_step():
    fit, queries = synthetic(0, 100, 20, "logistic", 1.0)
    lin = fit.linearize(queries)
    answer = ranked_with_confidence(lin, k=15, rng=np.random.default_rng(0))
    shares = proved_pairs_in_order(
        Interval(newton(lin), np.zeros((100, 5))), trak(lin, k=15, rng=np.random.default_rng(1))
    )
    assert answer.proved == 1.0
    assert abs(shares.mean() - answer.expected) < 0.08


@pytest.mark.parametrize(("draws", "place"), [(298, 0), (299, 1), (472, 1), (473, 2), (999, 5)])
def test_the_order_statistic_is_the_tolerance_bound(draws, place):
    if place == 0:
        with pytest.raises(ValueError, match=r"298 draws are too few for confidence 0.99: take at least 299"):
            _place(0.99, draws)
    else:
        assert _place(0.99, draws) == place


def test_bad_settings_are_named():
    rng = np.random.default_rng(0)
    fit, queries = synthetic(0, 100, 20, "logistic", 1.0)
    lin = Linearization(fit.glm.features, fit.residual, fit.curvature, 1.0, queries)
    for options, message in (
        ({"model": fit, "k": 5}, "a fit needs queries"),
        ({"model": lin, "k": 5, "queries": queries}, "leave queries out"),
        ({"model": lin, "k": 5, "method": "guess"}, "unknown method 'guess'"),
        ({"model": lin, "k": 5, "confidence": 1.0}, "confidence must lie in"),
        ({"model": lin, "k": 21}, "k = 21 exceeds p = 20"),
    ):
        with pytest.raises(ValueError, match=message):
            ranked_with_confidence(**options, rng=rng)
