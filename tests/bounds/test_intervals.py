"""Certified intervals and the order they prove hold on every input, against minimisers in fifty digits."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import event, given, target
from hypothesis import strategies as st
from support.hard_problems import exact_influence, hard_fits, indices, without
from support.problems import queries_for, random_glm, seeds

from simulations.workloads.data import real_problem
from trak_theory import GLM, Logistic, Squared, leave_one_out, newton
from trak_theory.loo.certificates import certificate_for
from trak_theory.loo.certified_order import certified_order
from trak_theory.loo.intervals import Interval, newton_interval

TINY = np.finfo(float).tiny


@given(hard_fits(), indices, seeds, st.integers(0, 2))
def test_the_exact_influence_lies_in_the_interval(fit, index, seed, chord_steps):
    i, queries = index % len(fit.glm.targets), np.random.default_rng(seed).standard_normal((3, len(fit.coef)))
    interval = newton_interval(fit, queries, chord_steps=chord_steps)
    assert set(interval.unresolved) == set(np.flatnonzero(np.isinf(interval.radius).any(1)).tolist())
    left = without(fit, i)
    if left is None:
        event("no minimiser")
        assert np.all(np.isinf(interval.radius[i]))
        return
    error = np.abs(exact_influence(fit, left, queries) - interval.center[i])
    if i in interval.unresolved:
        event("void: " + ("leverage" if "leverage" in interval.unresolved[i] else "premise"))
        return
    event("certified")
    assert np.all(error <= interval.radius[i])
    if fit.glm.loss.self_concordance:
        target(np.max(error / np.maximum(interval.radius[i], TINY)))


@given(hard_fits(loss=Logistic(self_concordance=None), intercepts=False), indices, seeds)
def test_a_loss_without_constant_gets_strong_convexity(fit, index, seed):
    i, queries = index % len(fit.glm.targets), np.random.default_rng(seed).standard_normal((3, len(fit.coef)))
    interval = newton_interval(fit, queries, chord_steps=1)
    left = without(fit, i)
    if left is None or i in interval.unresolved:
        event("void")
        return
    error = np.abs(exact_influence(fit, left, queries) - interval.center[i])
    assert np.all(error <= interval.radius[i])
    target(np.max(error / np.maximum(interval.radius[i], TINY)))


def test_a_loss_without_constant_and_an_unpenalised_intercept_have_no_certificate():
    glm = random_glm(0, loss=Squared(self_concordance=None), intercept=True)
    interval = newton_interval(glm.fit(), queries_for(glm, 0))
    assert np.all(np.isinf(interval.radius))
    assert "no self-concordance" in interval.unresolved[0]


def test_least_squares_is_newton_up_to_rounding():
    glm = random_glm(3, loss="squared", condition=1e4, weights=True, intercept=True)
    queries = queries_for(glm, 3)
    interval = newton_interval(glm.fit(), queries)
    assert np.allclose(interval.center, newton(glm.fit().linearize(queries)), rtol=1e-10)
    assert np.all(interval.radius <= 1e-9 * np.abs(interval.center).max())


@pytest.mark.parametrize("shape", [(60, 8), (40, 90)], ids=["p<n", "p>n"])
def test_chord_steps_shrink_the_interval_around_the_truth(shape):
    glm = random_glm(1, n=shape[0], p=shape[1], loss="logistic", ridge=3.0, intercept=True)
    fit, queries = glm.fit(), queries_for(glm, 1)
    truth = leave_one_out(fit, queries)
    intervals = [newton_interval(fit, queries, chord_steps=steps) for steps in (0, 1, 2, 3)]
    for wide, narrow in pairwise(intervals):
        assert np.all(narrow.radius <= wide.radius)
        assert np.median(narrow.radius / wide.radius) < 0.1
    for interval in intervals:
        assert np.all(np.abs(truth.influence - interval.center) <= interval.radius + truth.radius)


def test_a_point_that_nothing_replaces_is_named():
    features = np.column_stack([np.random.default_rng(0).standard_normal((30, 2)), np.zeros(30)])
    features[4, 2] = 1.0
    fit = GLM(features, 1 + np.arange(30.0) % 4, loss="poisson").fit()
    interval = newton_interval(fit, features[:2])
    assert list(interval.unresolved) == [4]
    assert "leverage 1 is 1 to working precision" in interval.unresolved[4]
    with pytest.raises(ValueError, match="chord_steps must be ≥ 0, got -1"):
        newton_interval(fit, features[:2], chord_steps=-1)


# (largest median radius/|influence|, smallest share of pairs proved) after 0, 1 and 2 chord steps
TARGETS = {
    "digits_3_vs_8": ((2e-2, 0.85), (1e-4, 0.97), (1e-4, 0.99)),
    "breast_cancer": ((2e-3, 0.93), (1e-4, 0.97), (1e-4, 0.99)),
}


@pytest.mark.parametrize("data", TARGETS)
def test_real_data_at_ridge_one(data):
    found = []
    for split in range(5):
        problem = real_problem(data, queries=40, ridge=1.0, rng=np.random.default_rng(split))
        fit = problem.glm().fit()
        truth, estimate = leave_one_out(fit, problem.queries), newton(fit.linearize(problem.queries))
        for steps in range(3):
            interval = newton_interval(fit, problem.queries, chord_steps=steps)
            assert np.all(np.abs(truth.influence - interval.center) <= interval.radius + truth.radius)
            order = certified_order(interval, estimate)
            found.append((np.median(interval.radius / np.abs(interval.center)), order.proved))
    widths, proved = np.array(found).reshape(5, 3, 2).mean(0).T
    for width, share, (largest, smallest) in zip(widths, proved, TARGETS[data], strict=True):
        assert width <= largest
        assert share >= smallest


def brute_force_order(interval, estimate):
    """Pair by pair: share proved, and (concordant − discordant − unproved)/pairs."""
    low, high = interval.center - interval.radius, interval.center + interval.radius
    n, q = interval.center.shape
    proved, score = np.zeros(q), np.zeros(q)
    for j in range(q):
        for i in range(n):
            for k in range(i):
                order = int(high[k, j] < low[i, j]) - int(high[i, j] < low[k, j])
                proved[j] += abs(order)
                score[j] += order * np.sign(estimate[i, j] - estimate[k, j]) if order else -1
    return proved / (n * (n - 1) / 2), score / (n * (n - 1) / 2)


@st.composite
def rankings(draw):
    """Intervals and estimates with ties, infinite radii, and a truth inside."""
    rng = np.random.default_rng(draw(seeds))
    n, width = draw(st.integers(2, 17)), draw(st.floats(0, 3))
    center, estimate = rng.integers(0, 9, (2, n, 2)).astype(float)
    radius = width * rng.random((n, 2)) * rng.integers(0, 2, (n, 2))
    truth = center + radius * rng.uniform(-1, 1, (n, 2))
    if draw(st.booleans()):
        center[0], radius[0] = np.nan, np.inf
    return Interval(center, radius), estimate, truth


@given(rankings())
def test_the_proved_order(ranking):
    interval, estimate, truth = ranking
    order = certified_order(interval, estimate)
    proved, score = brute_force_order(interval, estimate)
    assert np.allclose(order.proved_by_query, proved)
    assert np.allclose(order.kendall_by_query, score)
    assert order.proved == pytest.approx(proved.mean())
    rows, columns = np.triu_indices(len(estimate), 1)
    concordance = np.sign(estimate[rows] - estimate[columns]) * np.sign(truth[rows] - truth[columns])
    kendall = concordance.mean(0)
    assert np.all(order.kendall_by_query <= kendall + 1e-12)
    target(float(np.min(order.kendall_by_query - kendall)))


def test_equality_of_the_rank_bound():
    line = np.arange(5.0)[:, None]
    assert certified_order(Interval(line, np.full((5, 1), 0.49)), line).kendall == 1
    assert certified_order(Interval(line, np.full((5, 1), 0.5)), line).proved == pytest.approx(0.6)
    # Intervals that all overlap allow the reversed order.
    assert certified_order(Interval(line, np.full((5, 1), 2.0)), line).kendall == -1
    unknown = line.copy()
    unknown[2] = np.nan
    assert certified_order(Interval(line, np.zeros((5, 1))), unknown).proved == pytest.approx(0.6)
    with pytest.raises(ValueError, match="shape"):
        certified_order(Interval(line, line), np.zeros((4, 1)))


def test_rounding_of_a_gradient_is_counted_in_the_norm_of_the_problem_without_the_point():
    """‖e‖_{M⁻¹} reaches ‖e‖_{H⁻¹}/√(1 − h) along the point's own row; here 1 − h < .1."""
    fit = GLM([[8.0], [0.5], [-0.5], [1.0]], [1.0, 0.0, 1.0, 1.0], loss="squared", ridge=0.1).fit()
    certificate, block, none = certificate_for(fit, np.ones((1, 1)), sharp=False), np.array([0]), np.zeros(1)
    remaining, points = certificate.evaluator.problems.remaining[0], np.zeros((1, 1))
    exact = certificate.evaluator.evaluate(block, points, none)
    rounded = replace(exact, decrement=none, spread=none, rounding=np.full(1, 1e-6))
    assert remaining < 0.1
    for _, distance in certificate.near(block, rounded):
        assert 1e-6 / np.sqrt(remaining) <= distance[0] <= 1.01e-6 / np.sqrt(remaining)
