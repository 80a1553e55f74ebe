"""Proxies, calibration, bound and verdict against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from support.trajectories import OPTIMIZERS, digits_run, queries, small_network, small_run

from trak_theory.trajectory import AdamW, attribute, calibrate, error_bound, retrain_without, verdict
from trak_theory.trajectory.proxies import audited_error

NET = small_network()
RUN = small_run(NET, OPTIMIZERS["adamw"])


def test_calibration_covers_the_share_that_it_is_asked_for():
    rng = np.random.default_rng(0)
    proxies = [rng.uniform(1, 2, (500, 2)) for _ in range(3)]
    errors = [proxy * rng.standard_normal(proxy.shape) for proxy in proxies]
    for coverage in (0.5, 0.9, 0.99):
        factor = calibrate(proxies, errors, coverage=coverage)
        covered = np.mean([np.abs(e) <= factor * p for e, p in zip(errors, proxies, strict=True)])
        assert coverage <= covered <= coverage + 1 / 1000
    with pytest.raises(ValueError, match=r"coverage must lie in \(0, 1\), got 1"):
        calibrate(proxies, errors, coverage=1.0)


def test_the_bound_is_a_multiple_of_the_proxy_and_only_for_what_it_was_calibrated_on():
    attribution = attribute(RUN, queries(NET))
    np.testing.assert_array_equal(error_bound(attribution), 2.25 * attribution.proxy)
    for function in (error_bound, verdict):
        with pytest.raises(ValueError, match=r"is calibrated for .* not for 'first-order'"):
            function(attribute(RUN, queries(NET), estimator="first-order"))


def test_the_sensitivity_is_the_change_when_hessians_shrink_by_a_tenth():
    columns = queries(NET)
    score = attribute(RUN, columns).influence
    damped = attribute(RUN, columns, damping=0.9).influence
    change = np.linalg.norm(score - damped, axis=0) / np.linalg.norm(score, axis=0)
    assert verdict(attribute(RUN, columns)).sensitivity == pytest.approx(change.mean(), rel=1e-12)


@pytest.mark.parametrize("removal", ["keep", "renormalise"])
def test_the_audit_estimates_the_relative_error(removal):
    """Mean of ê² over many audits against the truth, as a z-score; a ratio of means has a bias of order 1/audit."""
    columns = queries(NET, q=1)
    attribution = attribute(RUN, columns, estimator="two-step", removal=removal)
    truth = retrain_without(RUN, np.arange(NET.n)[:, None], removal=removal).influence(columns)
    exact = np.linalg.norm(truth - attribution.influence) / np.linalg.norm(truth)
    found = np.array([audited_error(attribution, 200, np.random.default_rng(seed)) ** 2 for seed in range(30)])
    assert abs(found.mean() - exact**2) < 4 * found.std(ddof=1) / np.sqrt(30) + exact**2 / 20


def test_audits_are_checked():
    attribution = attribute(RUN, queries(NET))
    with pytest.raises(ValueError, match="an audit draws samples at random: pass rng"):
        verdict(attribution, audit=4)
    with pytest.raises(ValueError, match='attribute with occurrences="all"'):
        verdict(attribute(RUN, queries(NET), occurrences="each"), audit=4, rng=np.random.default_rng(0))


@pytest.mark.slow
def test_the_verdict_tells_a_small_learning_rate_from_a_large_one():
    labels = []
    for rate in (1e-3, 3e-2):
        run, query = digits_run(0, AdamW(rate))
        attribution = attribute(run, query, estimator="frozen-push")
        labels.append((verdict(attribution).label, verdict(attribution, audit=16, rng=np.random.default_rng(0)).label))
    assert labels[0] == ("trust", "trust")
    assert "trust" not in labels[1]
