"""Proxies, path defects, calibration, bound and verdict against their definitions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.networks.trajectories import OPTIMIZERS, digits_run, queries, small_network, small_run

from trak_theory.trajectory import (
    SGD,
    AdamW,
    attribute,
    calibrate,
    error_bound,
    forward,
    retrain_without,
    train,
    verdict,
)
from trak_theory.trajectory.convention import Convention
from trak_theory.trajectory.forward_mode import path_defects
from trak_theory.trajectory.proxies import curvature_proxy, sensitivity
from trak_theory.trajectory.reliability.labels import THRESHOLDS, Thresholds, deserved, free_label
from trak_theory.trajectory.sweep.reverse import Settings

NET = small_network()
RUN = small_run(NET, OPTIMIZERS["adamw"])


# --- the defect ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("removal", ["keep", "renormalise"])
@pytest.mark.parametrize("name", ["adamw", "sgd momentum", "adamw clipped", "sgd"])
def test_the_defect_of_a_path_is_what_the_optimiser_would_do_differently_on_it(name, removal):
    """A plain loop: moments follow the retraining's gradients at the predicted θ, updates are compared."""
    run, sample = small_run(NET, OPTIMIZERS[name]), 3
    prefix = [replace(run, batches=run.batches[:t]) for t in range(1, run.steps + 1)]
    thetas = [run.state(t)[0] for t in range(run.steps + 1)]
    predicted = [np.zeros(NET.p)] + [_path(part, sample, removal) for part in prefix]
    slots, missed, whole = run.state(0)[1:], 0.0, 0.0
    for t, batch in enumerate(run.batches):
        kept = (batch != sample).astype(float)
        weights = kept / (len(batch) if removal == "keep" else kept.sum())
        gradient = NET.gradient(thetas[t] + predicted[t], batch, weights)
        after = run.step(t)((thetas[t] + predicted[t], *slots), gradient)
        change = (after[0] - thetas[t] - predicted[t]) - (thetas[t + 1] - thetas[t])
        slots = after[1:]
        missed += np.sum((change - (predicted[t + 1] - predicted[t])) ** 2)
        whole += np.sum(change**2)
    found = path_defects(run, [sample], Settings("first-order"), Convention(removal))
    assert found[0] == pytest.approx(np.sqrt(missed / whole), rel=1e-6)
    assert found[0] > 1e-3


def _path(part, sample, removal):
    """δθ at the end of the first steps of a run, by forward mode on these steps alone."""
    return forward(part, [sample], estimator="first-order", removal=removal)[0]


def test_the_defect_vanishes_where_the_prediction_is_the_retraining():
    linear = small_run(NET, SGD(1e-7))
    assert path_defects(linear, [0, 5], Settings(), Convention()).max() < 1e-5
    unseen = train(NET, RUN.state(0)[0], [batch[batch != 3] for batch in RUN.batches], RUN.optimizer)
    assert path_defects(unseen, [3], Settings(), Convention())[0] == 0.0


def test_kinks_show_in_the_defect_and_not_in_the_damped_hessian():
    smooth, kinked = (digits_run(0, AdamW(1e-3), activation=name, hidden=(32,))[0] for name in ("gelu", "relu"))
    query = np.random.default_rng(0).standard_normal((smooth.objective.p, 1))
    first, second = (attribute(run, query, estimator="frozen-push") for run in (smooth, kinked))
    assert first.defect < 0.3 < 0.5 < second.defect
    assert max(sensitivity(a.influence, a.damped) for a in (first, second)) < 0.15


# --- proxy, calibration and bound ------------------------------------------------------------------------------------


def test_the_proxy_grows_with_the_defect_and_the_change_under_damping():
    rng = np.random.default_rng(0)
    score, damped = rng.standard_normal((2, 50, 3))
    change, own = (score - damped) ** 2, score**2
    for defect, seen in ((0.0, 0.0), (0.4, 0.4), (7.0, 1.0)):
        expected = np.sqrt(change + change.mean(0) + (0.05**2 + seen**2) * (own + own.mean(0)))
        np.testing.assert_allclose(curvature_proxy(score, damped, defect), expected, rtol=1e-14)


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
    with pytest.raises(ValueError, match=r"8 rows with known truth cannot support a coverage of 0\.9: at least 9"):
        calibrate([np.ones(8)], [np.ones(8)])


@pytest.mark.parametrize("known", [9, 16, 19])
def test_few_known_rows_cover_a_new_one_as_often_as_promised_whatever_the_errors(known):
    """Split conformal: P(|error| ≤ c · proxy) = ⌈.9(m + 1)⌉/(m + 1), whatever the tails and the proxy."""
    rng, draws = np.random.default_rng(known), 4000
    errors, proxy = rng.standard_cauchy((draws, known + 1)), rng.uniform(0.1, 1, (draws, known + 1))
    covered = [abs(e[-1]) <= calibrate([p[:-1]], [e[:-1]]) * p[-1] for e, p in zip(errors, proxy, strict=True)]
    expected = np.ceil(0.9 * (known + 1)) / (known + 1)
    assert abs(np.mean(covered) - expected) < 4 * np.sqrt(0.09 / draws)


def test_the_bound_is_a_multiple_of_the_proxy_and_only_for_what_it_was_calibrated_on():
    attribution = attribute(RUN, queries(NET))
    np.testing.assert_array_equal(error_bound(attribution), THRESHOLDS.bound * attribution.proxy)
    for function in (error_bound, verdict):
        with pytest.raises(ValueError, match=r"is calibrated for .* not for 'first-order'"):
            function(attribute(RUN, queries(NET), estimator="first-order"))


def test_a_bound_calibrated_on_retrainings_covers_those_it_was_calibrated_on():
    attribution = attribute(RUN, queries(NET), estimator="frozen-push")
    width = error_bound(attribution, audit=9, rng=np.random.default_rng(0))
    drawn = np.random.default_rng(0).choice(NET.n, 9, replace=False)
    error = np.abs(retrain_without(RUN, drawn[:, None]).influence(queries(NET)) - attribution.influence[drawn])
    assert np.all(error <= width[drawn] * (1 + 1e-12))
    np.testing.assert_allclose((error / width[drawn]).max(0), 1.0)  # nine retrainings: the largest ratio
    with pytest.raises(ValueError, match="at least 9 are needed"):
        error_bound(attribution, audit=8, rng=np.random.default_rng(0))


# --- the verdict -----------------------------------------------------------------------------------------------------


def test_the_sensitivity_is_the_change_when_hessians_shrink_by_a_tenth():
    columns = queries(NET)
    score = attribute(RUN, columns).influence
    damped = attribute(RUN, columns, damping=0.9).influence
    change = np.linalg.norm(score - damped, axis=0) / np.linalg.norm(score, axis=0)
    assert verdict(attribute(RUN, columns)).sensitivity == pytest.approx(change.mean(), rel=1e-12)


def test_the_thresholds_are_those_that_were_calibrated():
    """A change of any of them changes what the guide and the study report: measure again, then change this."""
    assert Thresholds() == THRESHOLDS
    assert (THRESHOLDS.spearman, THRESHOLDS.error, THRESHOLDS.ranks) == (0.95, 0.35, 0.8)
    assert THRESHOLDS.index == (0.16, 0.25, 0.45, 0.7)
    assert THRESHOLDS.audited == ((0.3, 0.5), (0.975, 0.5), (np.inf, 0.95))
    assert (THRESHOLDS.sensitivity, THRESHOLDS.bound) == (0.25, 2.0)


def test_the_free_label_follows_the_index_and_abstains_between():
    labels = [free_label(index, 0.1) for index in (0.0, 0.159, 0.161, 0.249, 0.251, 0.449, 0.451, 0.699, 0.701, np.inf)]
    asks, no = "retrain a few to tell", "do not trust"
    assert labels == ["trust", "trust", asks, asks, "ranks only", "ranks only", asks, asks, no, no]
    assert [free_label(index, 0.26) for index in (0.1, 0.3, 0.8)] == [asks, asks, no]
    assert free_label(0.1, np.nan) == asks


@pytest.mark.parametrize(
    ("spearman", "error", "label"),
    [
        (0.95, 0.35, "trust"),
        (0.949, 0.1, "ranks only"),
        (0.99, 0.351, "ranks only"),
        (0.8, 9.0, "ranks only"),
        (0.799, 0.1, "do not trust"),
        (np.nan, np.nan, "do not trust"),
    ],
)
def test_what_a_known_quality_deserves(spearman, error, label):
    assert deserved(spearman, error) == label


@pytest.mark.parametrize("removal", ["keep", "renormalise"])
def test_an_audit_of_everyone_measures_the_relative_error_and_the_rank_correlation(removal):
    attribution = attribute(RUN, queries(NET, q=1), estimator="two-step", removal=removal)
    exact = retrain_without(RUN, np.arange(NET.n)[:, None], removal=removal).agreement(attribution)
    everyone = verdict(attribution, audit=NET.n, rng=np.random.default_rng(0))
    assert everyone.audited_error == pytest.approx(exact.relative_error)
    assert everyone.audited_rank == pytest.approx(exact.spearman)
    assert everyone.label == deserved(exact.spearman, exact.relative_error)
    few = verdict(attribution, audit=12, rng=np.random.default_rng(0))
    assert few.audited_error == pytest.approx(exact.relative_error, rel=0.3)


def test_audits_are_checked():
    attribution = attribute(RUN, queries(NET))
    for function in (verdict, error_bound):
        with pytest.raises(ValueError, match="an audit draws samples at random: pass rng"):
            function(attribution, audit=10)
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


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_network_with_kinks_is_never_trusted(seed):
    """The commonest network, AdamW at 1e-3: Spearman .2 to .8, once called trust."""
    run, query = digits_run(seed, AdamW(1e-3), hidden=(32,), activation="relu")
    assert verdict(attribute(run, query, estimator="frozen-push")).label in ("do not trust", "retrain a few to tell")
