"""Bounds on the gaps between neighbouring rungs: they hold on every input, and each comes within a factor of two."""

import numpy as np
import pytest
from hypothesis import assume, event, given, target
from hypothesis import strategies as st
from support.hard_problems import exact_influence_and_newton, hard_linearizations
from support.problems import seeds

from trak_theory import Linearization, influence, newton, project, projection_matrix, unit_curvature
from trak_theory.loo.bounds import linearisation_radius, two_layer_curvature
from trak_theory.loo.rung_bounds import (
    influence_interval,
    linearisation_interval,
    projection_interval,
    unit_curvature_interval,
)


def check(interval, truth):
    """Every finite entry inside; the rest has its reason. Returns the largest share of a radius that was used."""
    lost = np.isinf(interval.radius).any(1)
    assert set(interval.unresolved) == set(np.flatnonzero(lost).tolist())
    error = np.abs(truth[~lost] - interval.center[~lost])
    assert np.all(error <= interval.radius[~lost])
    event("void" if lost.all() else "certified")
    return np.max(error / np.maximum(interval.radius[~lost], np.finfo(float).tiny), initial=0.0)


@given(hard_linearizations())
def test_newton_lies_around_influence(lin):
    truth = exact_influence_and_newton(lin)
    assume(truth is not None)
    target(check(influence_interval(lin), truth[1]))


@given(hard_linearizations())
def test_influence_lies_around_unit_curvature(lin):
    truth = exact_influence_and_newton(lin)
    assume(truth is not None)
    target(check(unit_curvature_interval(lin), truth[0]))


@given(hard_linearizations(one_ridge=True), seeds, st.floats(0, 1.1), st.integers(0, 2))
def test_projected_influence_lies_around_influence_at_the_same_ridge(lin, seed, distortion, extra):
    rng = np.random.default_rng(seed)
    p = lin.features.shape[1]
    k = p + (extra if lin.ridge[0] > 0 else 0)
    scales = np.sqrt(np.maximum(1 + distortion * rng.uniform(-1, 1, p), 0))
    sketch = (np.linalg.qr(rng.standard_normal((p, p)))[0] * scales) @ np.linalg.qr(rng.standard_normal((k, p)))[0].T
    truth = exact_influence_and_newton(lin, sketch)
    interval = projection_interval(lin, sketch)
    if truth is None:
        assert np.all(np.isinf(interval.radius))
    else:
        target(check(interval, truth[0]))


TANH = {"sup_first": 1.0, "sup_second": 4 / 3**1.5}


def two_layer(inputs, a, w, b, c):
    """f = aᵀ tanh(Wx + b) + c, and its gradient in (a, W, b, c), one row for each input."""
    hidden = np.tanh(inputs @ w.T + b)
    pushed = a * (1 - hidden**2)
    outer = (pushed[:, :, None] * inputs[:, None, :]).reshape(len(inputs), -1)
    return hidden @ a + c, np.hstack([hidden, outer, pushed, np.ones((len(inputs), 1))])


@given(seeds, st.integers(1, 5), st.integers(1, 6), st.floats(-3, 0.5), st.floats(-2, 2))
def test_linearised_two_layer_network(seed, dimension, width, size, spread):
    rng = np.random.default_rng(seed)
    inputs = 10.0**spread * rng.standard_normal((4, dimension))
    inputs[0] = 0.0
    shapes = [(width,), (width, dimension), (width,), ()]
    weights, step = ([rng.standard_normal(shape) for shape in shapes] for _ in range(2))
    scale = 10.0**size / np.sqrt(sum(np.sum(part**2) for part in step))
    step = [scale * part for part in step]
    value, gradient = two_layer(inputs, *weights)
    moved = two_layer(inputs, *(part + change for part, change in zip(weights, step, strict=True)))[0]
    linearised = value + gradient @ np.concatenate([np.ravel(part) for part in step])
    distance = 10.0**size * (1 + 1e-12)
    interval = linearisation_interval(
        linearised, two_layer_curvature(inputs, weights[0], distance=distance, **TANH), distance
    )
    error = np.abs(moved - interval.center)
    assert np.all(error <= interval.radius + 1e-13 * (1 + np.abs(gradient).sum(1) * distance))  # rounding of f
    target(np.max(error / interval.radius))


def test_nearly_tight_linearisation():
    # a = 0, z = 0: the Hessian is σ′(0)‖x̃‖ between a and the weights along x̃.
    x, size = np.array([[3.0]]), 1e-3
    step = [np.array([size]), np.array([[3 * size / 10**0.5]]), np.array([size / 10**0.5]), 0.0]
    moved = two_layer(x, *step)[0]
    distance = size * 2**0.5
    radius = linearisation_radius(two_layer_curvature(x, np.zeros(1), distance=distance, **TANH), distance)
    assert 0.97 < moved / radius <= 1


def test_relu_and_uncertified_distances_have_no_radius():
    curvature = two_layer_curvature(np.ones((2, 1)), np.zeros(3), sup_first=1.0, sup_second=np.inf)
    assert "ReLU" in linearisation_interval(np.zeros(2), curvature, 0.1).unresolved[0]
    lost = linearisation_interval(np.zeros((2, 3)), 1.0, np.array([[np.inf], [0.1]]))
    assert lost.unresolved == {0: "the distance is not certified"}
    assert lost.radius[1] == pytest.approx(np.full(3, 0.005))
    assert linearisation_radius(np.inf, 0.0) == 0


def orthogonal(curvature, ridge=0.0):
    """Rows along the axes, each its own query."""
    n = len(curvature)
    return Linearization(np.eye(n), np.ones(n), np.asarray(curvature), ridge, np.eye(n))


def test_equality_newton_and_influence():
    lin = orthogonal([1.0, 3.0], ridge=1.0)
    interval = influence_interval(lin)
    gap = np.abs(newton(lin) - interval.center)
    assert np.allclose(gap, interval.radius, rtol=1e-12)
    assert gap[1, 1] == pytest.approx(3 * interval.center[1, 1] * -1)


def test_leverage_one_is_named():
    lin = orthogonal([1.0, 3.0])
    interval = influence_interval(lin)
    assert np.all(np.isinf(interval.radius))
    assert "leverage 1 " in interval.unresolved[1]
    singular = influence_interval(orthogonal([0.0, 1.0]))
    assert np.all(np.isinf(singular.radius))
    assert "ridge" in singular.unresolved[0]


def test_equality_unit_curvature_of_orthogonal_rows():
    lin = orthogonal([0.5, 4.0])
    interval = unit_curvature_interval(lin)
    assert np.allclose(np.abs(influence(lin) - interval.center), np.diag(interval.radius.diagonal()))
    # Without a ridge the centre is the unit-curvature attribution on the scale (1/a + 1/b)/2.
    lin = Linearization(
        np.random.default_rng(0).standard_normal((9, 3)), np.ones(9), np.linspace(1, 5, 9), 0.0, np.eye(3)
    )
    assert np.allclose(unit_curvature_interval(lin).center, (1 + 1 / 5) / 2 * influence(unit_curvature(lin)))
    assert np.allclose(
        unit_curvature_interval(lin).radius,
        (1 - 1 / 5) / 2 * np.outer(*(np.linalg.norm(rows, axis=1) for rows in unit_curvature(lin).whitened)),
    )


def test_zero_curvature_without_a_ridge_has_no_bound():
    interval = unit_curvature_interval(orthogonal([0.0, 1.0]))
    assert np.all(np.isinf(interval.radius))
    assert "least curvature 0" in interval.unresolved[0]
    assert np.all(np.isfinite(unit_curvature_interval(orthogonal([0.0, 1.0], ridge=0.1)).radius))


def test_equality_projection_of_a_point_that_the_ridge_dominates():
    lin = orthogonal([1e-9], ridge=1.0)
    for scale in (1.3, 0.7):
        sketch = np.array([[np.sqrt(scale)]])
        interval = projection_interval(lin, sketch)
        gap = abs(influence(project(lin, sketch)) - interval.center)
        assert gap / interval.radius == pytest.approx(1, abs=1e-6)


def test_projection_below_the_rank_is_vacuous():
    rng = np.random.default_rng(0)
    lin = Linearization(rng.standard_normal((30, 12)), np.ones(30), np.ones(30), 1.0, rng.standard_normal((4, 12)))
    interval = projection_interval(lin, projection_matrix(12, 6, rng=rng))
    assert np.all(np.isinf(interval.radius))
    assert "≥ 1" in interval.unresolved[0]
    sparse = projection_matrix(4000, 1000, kind="sparse", rng=rng)
    lin = Linearization(rng.standard_normal((6, 4000)), np.ones(6), np.ones(6), 10.0, rng.standard_normal((2, 4000)))
    interval = projection_interval(lin, sparse)
    assert np.all(np.isfinite(interval.radius))
    assert np.all(np.abs(influence(project(lin, sparse)) - interval.center) <= interval.radius)
    with pytest.raises(ValueError, match="one ridge"):
        projection_interval(orthogonal([1.0, 1.0], ridge=np.array([1.0, 2.0])), np.eye(2))
