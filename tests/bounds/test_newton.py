"""Bounds on the distance to a minimiser: they hold on every input, and each comes within a factor of two."""

import numpy as np
import pytest
from hypothesis import assume, given, target
from hypothesis import strategies as st
from support.hard_problems import hard_fits, indices
from support.landscapes import PLACES, displacement, landscape, newton_points, tilted
from support.problems import seeds

from trak_theory import GLM, Logistic, Poisson, PseudoHuber, Squared
from trak_theory.loo.bounds import (
    chord_radius,
    largest_of_others,
    newton_certificate,
    newton_decrement_bound,
    strong_convexity_radius,
    two_layer_curvature,
)

ROUNDING = 1e-6  # of whitening at condition 1e8, relative


@given(hard_fits(), indices, seeds, st.floats(-3, 1))
def test_newton_certificate(fit, index, seed, size):
    scene = landscape(fit, index % len(fit.glm.targets))
    v = displacement(np.random.default_rng(seed), size, len(scene.ridge))
    with np.errstate(over="ignore"):
        decrement, curvature_ratio = np.linalg.norm(scene.gradient(v)), scene.curvature_ratio(v)
    bound = newton_certificate(decrement, scene.dual_norm, curvature_ratio, scene.m3)
    distance = np.linalg.norm(v)
    assert distance <= bound * (1 + ROUNDING)
    target(float(distance / bound))


@given(st.sampled_from([Squared(), Logistic(), Poisson(), PseudoHuber(1.0), PseudoHuber(0.2)]), *PLACES)
def test_both_in_one_dimension(loss, minimiser, point, reference):
    distance, decrement, dual_norm, curvature_ratio, after = tilted(loss, minimiser, point, reference)
    bound = newton_certificate(decrement, dual_norm, curvature_ratio, loss.self_concordance)
    assert distance <= bound * (1 + 1e-9) + 1e-13
    if distance > 1e-6:
        target(float(distance / bound))
    assert after <= chord_radius(distance, abs(point - reference), dual_norm, loss.self_concordance) + 1e-13 * dual_norm


@given(hard_fits(), indices, seeds, st.floats(-3, 1), st.floats(1, 2))
def test_chord_radius(fit, index, seed, size, slack):
    scene = landscape(fit, index % len(fit.glm.targets))
    v = displacement(np.random.default_rng(seed), size, len(scene.ridge))
    with np.errstate(over="ignore"):
        after = np.linalg.norm(v - scene.gradient(v))
        bound = chord_radius(slack * np.linalg.norm(v), scene.change(v), scene.dual_norm, scene.m3)
    assert after <= bound + ROUNDING * np.linalg.norm(v)
    target(float(after / max(bound, np.linalg.norm(v) * ROUNDING)))


@given(hard_fits())
def test_newton_decrement_bound(fit):
    lin = fit.linearize(np.zeros((1, len(fit.coef))))
    h, square = lin.leverage, (lin.whitened[0] ** 2).sum(1)
    assume(h.max() < 1 - 1e-9)
    decrement, change, scale = newton_points(fit)
    bound, largest = newton_decrement_bound(lin.residual, h, square, fit.glm.loss.self_concordance)
    assert np.all(change <= largest * (1 + ROUNDING))
    seen = np.isfinite(decrement)  # the remainder of the brute force overflows before the bound does
    allowed = bound * (1 + ROUNDING) + 1e-12 * scale / np.sqrt(1 - h)
    assert np.all(decrement[seen] <= allowed[seen])
    seen &= (bound > 1e-9 * scale) & np.isfinite(bound)
    target(float(np.max(decrement[seen] / bound[seen], initial=0.0)))


@given(hard_fits(intercepts=False), seeds, st.floats(-3, 1))
def test_strong_convexity(fit, seed, size):
    glm = fit.glm
    step = displacement(np.random.default_rng(seed), size, glm.features.shape[1])
    with np.errstate(over="ignore"):
        moved, here = (glm.loss.residual(glm.targets, glm.features @ theta) for theta in (fit.coef + step, fit.coef))
    gradient = glm.features.T @ (glm.weights * (moved - here)) + glm.ridge * step
    bound = strong_convexity_radius(np.linalg.norm(gradient), glm.ridge.min())
    assert np.linalg.norm(step) <= bound * (1 + ROUNDING)
    target(float(np.linalg.norm(step) / bound))


def test_equality_poisson_far_above_its_minimiser():
    # F(θ) = e^θ at θ − θ̂ = t > 0 with M = e^θ: the curvature falls as fast as M₃ allows all the way down.
    t = np.array([0.1, 1.0, 3.0])
    decrement = (np.exp(t) - 1) / np.exp(t / 2)
    dual_norm, distance = np.exp(-t / 2), t * np.exp(t / 2)
    assert np.allclose(newton_certificate(decrement, dual_norm, 1.0, 1.0), distance, rtol=1e-12)
    # Against a reference of four times the curvature, norms double and the curvature ratio is four.
    assert np.allclose(newton_certificate(decrement / 2, dual_norm / 2, 4.0, 1.0), distance * 2, rtol=1e-12)
    assert np.isinf(newton_certificate(1.0, 1.0, 1.0, 1.0))


def test_the_newton_certificate_of_a_quadratic_is_the_newton_step():
    assert newton_certificate(0.7, 3.0, 1.0, 0.0) == 0.7


@pytest.mark.parametrize(("start", "minimiser"), [(0.4, 0.9), (0.1, 0.2), (1.0, 3.0)])
def test_equality_one_chord_step_of_poisson(start, minimiser):
    # θ̂ = 0 < β < β̂: every curvature on the way is above that at θ̂ by as much as M₃ allows.
    after = abs(start - (np.exp(start) - np.exp(minimiser)) - minimiser)
    assert after == pytest.approx(chord_radius(minimiser - start, start, 1.0, 1.0), rel=1e-12)
    assert np.isinf(chord_radius(np.inf, start, 1.0, 1.0))


def test_equality_newton_point_of_equal_poisson_rows():
    # One feature, equal rows, no ridge: all outputs move alike, upwards where the removed count was too low.
    fit = GLM(np.ones((4, 1)), [0.0, 2.0, 3.0, 7.0], loss="poisson").fit()
    h, square = fit.curvature / fit.curvature.sum(), 1 / fit.curvature.sum()
    s = fit.residual[0] * square / (1 - h[0])
    assert s > 0.3
    decrement = (np.exp(s) - 1 - s) * fit.curvature[1:].sum() / np.sqrt(fit.curvature[1:].sum())
    bound, change = newton_decrement_bound(fit.residual, h, np.full(4, square), 1.0)
    assert change[0] == pytest.approx(s, rel=1e-12)
    assert bound[0] == pytest.approx(decrement, rel=1e-12)


def test_equality_strong_convexity_of_what_only_the_ridge_sees():
    assert strong_convexity_radius(2.0 * 0.3, 2.0) == pytest.approx(0.3)
    assert np.all(np.isinf(strong_convexity_radius(np.ones(2), 0.0)))


def test_leverage_one_and_runaway_changes_are_infinite():
    bound, change = newton_decrement_bound(np.ones(3), np.array([1.0, 0.5, 1 - 1e-9]), np.full(3, 2.0), 1.0)
    assert np.isinf(bound[[0, 2]]).all()
    assert np.isinf(change[[0, 2]]).all()
    assert np.isfinite(bound[1])


@pytest.mark.parametrize("n", [2, 3, 400])
def test_the_largest_of_the_others(n):
    values = np.random.default_rng(n).standard_normal(n)
    assert np.array_equal(largest_of_others(values), [np.delete(values, i).max() for i in range(n)])


def test_the_curvature_of_two_layers_is_reached_where_both_suprema_are():
    """By the block of one hidden unit, [[0, σ₁‖x̃‖], [σ₁‖x̃‖, aσ₂‖x̃‖²]]."""
    inputs, weights = np.random.default_rng(0).standard_normal((4, 3)), np.array([0.5, -2.0])
    found = two_layer_curvature(inputs, weights, sup_first=0.7, sup_second=1.3, distance=0.25)
    for x, bound in zip(inputs, found, strict=True):
        length = np.linalg.norm([*x, 1.0])
        block = [[0.0, 0.7 * length], [0.7 * length, 2.25 * 1.3 * length**2]]
        assert bound == pytest.approx(np.linalg.norm(block, 2))
