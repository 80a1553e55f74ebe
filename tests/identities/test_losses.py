"""Losses: derivatives against complex step and finite differences, finite on the whole line, remainder and slopes."""

import mpmath
import numpy as np
import pytest

from trak_theory import Logistic, Poisson, PseudoHuber, Squared

LOSSES = [Squared(), Logistic(), Poisson(), PseudoHuber(), PseudoHuber(0.3)]
TARGETS = {"squared": [-1.5, 2.0], "logistic": [0.0, 1.0], "poisson": [0.0, 3.0], "huber": [-1.5, 2.0]}


def grid(loss):
    outputs, targets = np.meshgrid(np.linspace(-8, 8, 65), TARGETS[loss.name])
    return targets.ravel(), outputs.ravel()


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_each_derivative_is_the_derivative_of_the_one_before(loss):
    targets, outputs = grid(loss)
    step = 1e-5
    for lower, upper in [("value", "residual"), ("residual", "curvature"), ("curvature", "third")]:
        function = getattr(loss, lower)
        difference = (function(targets, outputs + step) - function(targets, outputs - step)) / (2 * step)
        size = np.abs(function(targets, outputs)) / step * 1e-16 + 1e-9
        assert np.all(np.abs(difference - getattr(loss, upper)(targets, outputs)) < 10 * size + 1e-8)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("size", [50.0, 700.0, 1e4])
def test_no_overflow_far_out(loss, size):
    targets = np.array(TARGETS[loss.name])
    for output in (-size, size):
        if loss.name == "poisson" and output > 709:
            continue  # e^f itself overflows
        for name in ("value", "residual", "curvature", "third"):
            values = getattr(loss, name)(targets, np.full(2, output))
            assert np.all(np.isfinite(values)), (name, output)
        assert np.all(loss.curvature(targets, np.full(2, output)) >= 0)


def test_logistic_tails_keep_their_relative_accuracy():
    loss, far = Logistic(), np.array([-600.0])
    assert loss.residual(np.array([0.0]), far) == pytest.approx(np.exp(-600.0), rel=1e-12)
    assert loss.residual(np.array([1.0]), -far) == pytest.approx(-np.exp(-600.0), rel=1e-12)
    assert loss.value(np.array([1.0]), -far) == pytest.approx(0.0, abs=1e-250)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_taylor_remainder_is_the_residual_change_less_its_linear_part(loss):
    rng = np.random.default_rng(3)
    targets, outputs = grid(loss)
    weights = rng.uniform(0.5, 2.0, outputs.size)
    remainder = loss.taylor_remainder(targets, outputs, weights)
    change = rng.uniform(-2, 2, (3, outputs.size))
    moved = loss.residual(targets, outputs + change) - loss.residual(targets, outputs)
    expected = weights * (moved - loss.curvature(targets, outputs) * change)
    scale = np.exp(np.abs(outputs).max()) if loss.name == "poisson" else 1.0
    assert np.abs(remainder(change.copy()) - expected).max() < 1e-12 * scale
    single = remainder(change.astype(np.float32))
    assert single.dtype == np.float32
    assert np.abs(single - expected).max() < 1e-5 * scale


@pytest.mark.parametrize("output", [-26.0, 26.0])
def test_the_logistic_remainder_back_from_saturation(output):
    """σ is within 1e-11 of 0 or 1, and the change undoes most of it: differences of it would lose eleven digits."""
    change = -np.sign(output) * np.array([[1.0], [10.0], [20.0]])
    found = Logistic().taylor_remainder(np.ones(1), np.array([output]), np.full(1, 1e9))(change.copy())
    with mpmath.workdps(40):
        start, *ends = (1 / (1 + mpmath.exp(-mpmath.mpf(output) - s)) for s in (0.0, *change[:, 0]))
        exact = [1e9 * (end - start - start * (1 - start) * s) for end, s in zip(ends, change[:, 0], strict=True)]
    assert np.allclose(found[:, 0], np.array(exact, dtype=float), rtol=1e-13)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_self_concordance_is_the_supremum_of_third_over_second(loss):
    targets, outputs = np.zeros(20001), np.linspace(-30, 30, 20001)
    if loss.name == "huber":
        outputs = np.linspace(-5 * loss.delta, 5 * loss.delta, 20001)
    ratio = np.abs(loss.third(targets, outputs)) / loss.curvature(targets, outputs)
    assert ratio.max() <= loss.self_concordance * (1 + 1e-12)
    assert ratio.max() >= loss.self_concordance * (1 - 1e-3)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_asymptotic_slopes(loss):
    targets = np.array(TARGETS[loss.name])
    low, high = loss.asymptotic_slopes(targets)
    for slope, far in ((low, -200.0), (high, 200.0)):
        finite = np.isfinite(slope)
        residual = loss.residual(targets, np.full(2, far))
        assert np.allclose(residual[finite], slope[finite], rtol=1e-3, atol=1e-6)
        assert np.all(np.abs(residual[~finite]) > 100)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_slopes_at_infinity_are_limits_of_the_residual(loss):
    targets, far = np.array(TARGETS[loss.name]), 700.0
    for slope, output in zip(loss.asymptotic_slopes(targets), (-far, far), strict=True):
        slope, reached = np.clip(slope, -far / 2, far / 2), loss.residual(targets, np.full(2, output))
        assert np.allclose(slope, np.clip(reached, -far / 2, far / 2), rtol=1e-5)
