"""Readings of the query at predicted parameters, and audits, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from support.networks.trajectories import OPTIMIZERS, queries, small_network, small_run

from trak_theory.numerics.agreement import spearman
from trak_theory.trajectory import SGD, Query, attribute, forward, retrain_without, train, verdict
from trak_theory.trajectory.reliability import audits
from trak_theory.trajectory.reliability.audits import Plausible, audit_sample, plausible_quality
from trak_theory.trajectory.reliability.labels import audited_label

NET = small_network()
RUN = small_run(NET, OPTIMIZERS["adamw"])


# --- the query along the predicted displacement --------------------------------------------


def quadratic_query(p, scale, rng):
    """f(θ) = scale θᵀAθ/2 + bᵀθ with A symmetric."""
    half = rng.standard_normal((p, p))
    matrix, vector = scale * (half + half.T), rng.standard_normal(p)
    return matrix, vector, Query(lambda t: t @ matrix @ t / 2 + vector @ t, lambda t: matrix @ t + vector)


@pytest.mark.parametrize("scale", [0.03, 0.3])
def test_the_query_defect_of_a_quadratic_query_is_half_its_curvature_over_its_slope(scale):
    matrix, vector, query = quadratic_query(NET.p, scale, np.random.default_rng(1))
    tracked = attribute(RUN, query).tracked
    change = forward(RUN, tracked.samples)
    bent = np.einsum("ip,pr,ir->i", change, matrix, change) / 2
    slope = change @ (matrix @ RUN.final + vector)
    np.testing.assert_allclose(tracked.displaced[:, 0], -(slope + bent), rtol=1e-6, atol=1e-12)
    assert tracked.query_defect == pytest.approx(np.sqrt(np.sum(bent**2) / np.sum(slope**2)), rel=1e-6)
    assert tracked.query_defect > 1e-3
    assert tracked.index == pytest.approx(np.sqrt(tracked.defect**2 + tracked.query_defect**2))


def test_a_linear_query_does_not_bend_and_its_slope_is_the_estimate():
    attribution = attribute(RUN, queries(NET, q=3))
    tracked = attribution.tracked
    np.testing.assert_allclose(tracked.slope, attribution.influence[tracked.samples], rtol=1e-9)
    assert tracked.query_defect < 1e-9
    assert tracked.index == pytest.approx(attribution.defect)


def test_the_query_defect_grows_with_the_displacement_where_the_path_stays_exact():
    """Least squares: κ vanishes at every rate, and all that a removal's estimate misses is in the query."""
    from trak_theory.losses import Squared
    from trak_theory.trajectory import GLMObjective

    rng = np.random.default_rng(0)
    objective = GLMObjective(rng.standard_normal((12, 3)), rng.standard_normal(12), np.ones(12), Squared())
    query = Query(lambda t: t @ t / 2, lambda t: t)
    missed = []
    for rate in (1e-3, 0.1):
        run = train(objective, np.ones(3), [np.arange(i, i + 4) for i in (0, 4, 8)], SGD(rate))
        tracked = attribute(run, query).tracked
        truth = retrain_without(run, tracked.samples[:, None], removal="keep").influence(query)
        first = [i in run.batches[-1] for i in tracked.samples]  # seen once, last: the removal is exact
        assert any(first)
        np.testing.assert_allclose(tracked.displaced[first], truth[first], rtol=1e-9)
        missed.append(tracked.query_defect)
    assert missed[0] < 0.01 < missed[1]


def test_a_reading_that_is_lost_counts_three():
    query = Query(lambda t: np.exp(1e3 * np.abs(t - RUN.final).sum()) * 1e300, lambda t: np.ones(NET.p))
    assert attribute(RUN, query).tracked.query_defect == 3.0


# --- audits ----------------------------------------------------------


def test_an_audit_takes_the_largest_and_one_of_each_stratum_of_the_others():
    estimate, drawn = np.random.default_rng(0).standard_normal((23, 1)), np.zeros(23)
    order, rng = np.argsort(-np.abs(estimate[:, 0])), np.random.default_rng(1)
    others = order[3:][np.argsort(estimate[order[3:], 0])]
    for _ in range(3000):
        rows, weights = audit_sample(estimate, 8, rng)
        assert rows[:3].tolist() == order[:3].tolist()
        np.testing.assert_array_equal(weights, [1.0] * 3 + [4.0] * 5)
        np.testing.assert_array_equal([list(others).index(row) // 4 for row in rows[3:]], range(5))
        drawn[rows] += 1
    assert np.abs(drawn[order[3:]] / 3000 - 0.25).max() < 4 * np.sqrt(0.1875 / 3000)


@pytest.mark.parametrize(("rows", "count", "taken"), [(5, 1, 1), (5, 5, 5), (5, 16, 5), (1, 3, 1), (30, 16, 16)])
def test_an_audit_stands_for_every_row_whatever_its_size(rows, count, taken):
    estimate = np.random.default_rng(rows).standard_normal((rows, 2)) * [1.0, 0.0]
    chosen, weights = audit_sample(estimate, count, np.random.default_rng(0))
    assert len(chosen) == len(set(chosen.tolist())) == taken
    assert weights.sum() == rows


def test_strata_tell_the_rank_correlation_more_exactly_than_a_uniform_choice():
    """The spread of the median over 150 audits, where rows of one sign have six times the errors that are expected."""
    rng = np.random.default_rng(0)
    s = rng.standard_normal((100, 1))
    proxy, truth = np.ones_like(s), s + np.where(s > 0, 1.2, 0.2) * rng.standard_normal(s.shape)

    def spread(audit):
        found = [plausible_quality(s, proxy, *own, truth[own[0]], rng, draws=40) for own in map(audit, range(150))]
        return np.std([np.median(part.spearman) for part in found])

    uniform = spread(lambda _: (rng.choice(100, 16, replace=False), np.full(16, 100 / 16)))
    assert spread(lambda _: audit_sample(s, 16, rng)) < uniform


def test_plausible_qualities_surround_the_true_one_where_errors_are_of_one_kind():
    """Errors proxy × normal: the true quality is within the middle 95 % of the draws in .75 of 200 problems or more."""
    rng, inside = np.random.default_rng(0), []
    for _ in range(200):
        s = rng.standard_normal((80, 1))
        proxy = 0.3 * np.sqrt(s**2 + np.mean(s**2))
        truth = 1.2 * s + proxy * rng.standard_normal(s.shape)
        rows, weights = audit_sample(s, 16, rng)
        seen = plausible_quality(s, proxy, rows, weights, truth[rows], rng, draws=100)
        exact = spearman(truth[:, 0], s[:, 0]), np.linalg.norm(truth - s) / np.linalg.norm(truth)
        draws = (seen.spearman, seen.relative_error)
        inside.append([np.quantile(d, 0.025) <= e <= np.quantile(d, 0.975) for d, e in zip(draws, exact, strict=True)])
    assert (np.mean(inside, axis=0) > 0.75).all()


def test_an_error_of_the_scale_alone_leaves_ranks_intact():
    s = np.random.default_rng(0).standard_normal((60, 1))
    rows, weights = audit_sample(s, 16, np.random.default_rng(0))
    seen = plausible_quality(s, np.ones((60, 1)), rows, weights, 2 * s[rows], np.random.default_rng(1))
    np.testing.assert_allclose(seen.spearman, 1.0)
    np.testing.assert_allclose(seen.relative_error, 0.5)


def test_errors_of_one_sign_count_as_errors_of_both():
    """A shift that all retrained rows share leaves their ranks intact, and is no reason to trust the others'."""
    s = np.linspace(-1, 1, 60)[:, None]
    rows, weights = audit_sample(s, 16, np.random.default_rng(0))
    seen = plausible_quality(s, np.ones_like(s), rows, weights, s[rows] + 0.5, np.random.default_rng(1))
    assert seen.spearman.max() < 0.95


def test_an_audit_does_not_foresee_an_error_of_a_kind_that_it_did_not_see():
    """The control: one unseen outlier makes the true error larger than every draw."""
    s = np.linspace(1, 2, 60)[:, None]
    truth = s + 0.01
    rows, weights = audit_sample(s, 16, np.random.default_rng(0))
    truth[np.setdiff1d(np.arange(60), rows)[0]] = 30.0
    seen = plausible_quality(s, 0.1 * s, rows, weights, truth[rows], np.random.default_rng(1))
    assert seen.relative_error.max() < 0.1 < np.linalg.norm(truth - s) / np.linalg.norm(truth)


@pytest.mark.parametrize(
    ("rank", "error", "share", "index", "label"),
    [
        (0.95, 0.35, 0.3, 0.25, "trust"),
        (0.95, 0.35, 0.295, 0.25, "do not trust"),
        (0.95, 0.351, 1.0, 0.25, "ranks only"),
        (0.949, 0.1, 1.0, 0.25, "ranks only"),
        (0.8, 9.0, 0.5, 0.25, "ranks only"),
        (0.95, 0.35, 0.975, 0.251, "trust"),
        (0.95, 0.35, 0.97, 0.251, "ranks only"),
        (0.95, 0.35, 0.975, 0.7, "trust"),
        (0.8, 9.0, 0.5, 0.7, "ranks only"),
        (0.8, 9.0, 0.495, 0.7, "do not trust"),
        (0.99, 0.1, 1.0, 0.701, "ranks only"),
        (0.8, 9.0, 0.95, 0.701, "ranks only"),
        (0.99, 0.1, 1.0, np.nan, "ranks only"),
        (0.8, 9.0, 0.945, 0.701, "do not trust"),
    ],
)
def test_the_audited_label_wants_enough_of_what_is_plausible(rank, error, share, index, label):
    good = np.arange(200) < share * 200
    plausible = Plausible(np.where(good, rank, -1.0), np.where(good, error, 5.0))
    assert audited_label(plausible, index) == label


def test_a_verdict_hands_the_truth_of_its_audit_to_the_label(monkeypatch):
    attribution = attribute(RUN, queries(NET, q=2))
    asked = []

    def recorded(*arguments, **how):
        asked.append(arguments)
        return audits.plausible_quality(*arguments, **how)

    monkeypatch.setattr("trak_theory.trajectory.verdicts.plausible_quality", recorded)
    found = verdict(attribution, audit=6, rng=np.random.default_rng(0))
    ((estimate, proxy, rows, weights, truth, _),) = asked
    np.testing.assert_array_equal(estimate, attribution.influence)
    np.testing.assert_array_equal(proxy, attribution.proxy)
    np.testing.assert_allclose(truth, retrain_without(RUN, rows[:, None]).influence(attribution.query))
    assert len(weights) == 6
    assert found.query_defect == attribution.tracked.query_defect
