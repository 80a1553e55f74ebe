"""ranked_with_confidence keeps its promise over fresh projections, and is not vacuous."""

import numpy as np
import pytest

from simulations.studies.laws.order_confidence import SETTINGS, Setting, answered, problem
from trak_theory import Linearization, leave_one_out, newton, ranked_with_confidence, trak
from trak_theory.laws.confidence import _place
from trak_theory.loo.certified_order import proved_pairs_in_order
from trak_theory.loo.intervals import Interval


def synthetic(seed, n, p, loss, ridge):
    return problem(Setting(n, p, loss, ridge, k=1, ensemble=1, projected_ridge=0.0), np.random.default_rng(seed))


def test_the_law_expects_the_share_that_projections_reach():
    answer, fresh = answered(SETTINGS["p > n"], "law", np.random.default_rng(1))
    se = fresh.std(ddof=1) / np.sqrt(fresh.size)
    assert abs(answer.expected - fresh.mean()) < 4 * se + 0.004


@pytest.mark.slow
def test_the_promise_is_kept_on_fourteen_settings():
    rng = np.random.default_rng(2)
    kept = []
    for setting in SETTINGS.values():
        answer, fresh = answered(setting, "draws", rng)
        kept.append((fresh >= answer.share).mean())
    assert min(kept) >= 0.97  # of 100, each with a probability ≥ .99
    assert np.mean(kept) >= 0.99


def test_the_law_promises_too_much_where_projections_are_narrow():
    """A normal share has three quarters of the spread: why projections are drawn unless the law is asked for."""
    answer, _ = answered(SETTINGS["wide"], "law", np.random.default_rng(100))
    drawn, _ = answered(SETTINGS["wide"], "draws", np.random.default_rng(100))
    assert answer.share > drawn.share
    assert abs(answer.expected - drawn.expected) < 0.003


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
    real = _of_projections(lin, rng, k=50, ensemble=1, ridge=5.0, kind="normal")
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
        ({"model": lin, "k": 5, "kind": "srht", "method": "law"}, "the law simulates normal projections only"),
    ):
        with pytest.raises(ValueError, match=message):
            ranked_with_confidence(**options, rng=rng)
