"""Two-layer network: printed gradient, Hessian and remainder against complex steps of the network itself."""

import numpy as np
import pytest
import sympy as sp

from trak_theory.symbolic.notation import a_w, verify, z
from trak_theory.symbolic.two_layer import (
    A_STEP,
    Z_STEP,
    gradient,
    hessian,
    linearization_remainder,
    remainder_series,
    unit_blocks,
    with_activation,
)

ACTIVATIONS = {
    "tanh": (sp.tanh(z), np.tanh),
    "logistic": (1 / (1 + sp.exp(-z)), lambda t: 1 / (1 + np.exp(-t))),
    "cubic": (z**3, lambda t: t**3),
}
UNITS, WIDTH = 3, 4
STEP = 1e-30


def split(theta):
    outer, weights, bias, offset = np.split(theta, np.cumsum([UNITS, UNITS * WIDTH, UNITS]))
    return outer, weights.reshape(UNITS, WIDTH), bias, offset[0]


def output(theta, inputs, function):
    outer, weights, bias, offset = split(theta)
    return outer @ function(weights @ inputs + bias) + offset


def complex_step(function, point):
    return np.array([np.imag(function(point + STEP * 1j * row)) / STEP for row in np.eye(point.size)])


@pytest.fixture
def network():
    rng = np.random.default_rng(2)
    return rng.standard_normal(UNITS * (WIDTH + 2) + 1), rng.standard_normal((5, WIDTH)), rng.standard_normal(5)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gradient_and_hessian_against_complex_steps(network, name):
    theta, inputs, _ = network
    symbolic, function = ACTIVATIONS[name]
    for x in inputs:
        slope = gradient(split(theta), x, symbolic)
        np.testing.assert_allclose(slope, complex_step(lambda t, x=x: output(t, x, function), theta), rtol=1e-12)
        second = complex_step(lambda t, x=x: gradient(split(t), x, symbolic), theta)
        np.testing.assert_allclose(hessian(split(theta), x, symbolic), second, atol=1e-12)


def test_units_do_not_mix(network):
    theta, inputs, _ = network
    second = hessian(split(theta), inputs[0], sp.tanh(z))
    unit = np.r_[np.arange(UNITS), np.repeat(np.arange(UNITS), WIDTH), np.arange(UNITS), -1]
    assert np.all(second[unit[:, None] != unit] == 0)
    assert np.all(second[-1] == 0)


def test_dropped_gauss_newton_term_completes_the_hessian_of_the_loss(network):
    """∇²Σ(f − y)²/2 = ΦᵀΦ + Σ r_i ∇²f_i; the Gauss–Newton matrix alone is wrong."""
    theta, inputs, targets = network

    def loss_gradient(t):
        return sum(
            (output(t, x, np.tanh) - y) * gradient(split(t), x, sp.tanh(z))
            for x, y in zip(inputs, targets, strict=True)
        )

    features = np.array([gradient(split(theta), x, sp.tanh(z)) for x in inputs])
    residual = np.array([output(theta, x, np.tanh) for x in inputs]) - targets
    dropped = sum(r * hessian(split(theta), x, sp.tanh(z)) for r, x in zip(residual, inputs, strict=True))
    full = complex_step(loss_gradient, theta)
    np.testing.assert_allclose(features.T @ features + dropped, full, atol=1e-11)
    assert np.abs(features.T @ features - full).max() > 0.1


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_remainder_is_what_the_linearised_network_leaves_out(network, name):
    theta, inputs, _ = network
    symbolic, function = ACTIVATIONS[name]
    step = 0.1 * np.random.default_rng(3).standard_normal(theta.size)
    remainder = sp.lambdify([a_w, z, A_STEP, Z_STEP], with_activation(linearization_remainder(), symbolic), "mpmath")
    for x in inputs:
        outer, weights, bias, _ = split(theta)
        outer_step, weights_step, bias_step, _ = split(step)
        units = zip(outer, weights @ x + bias, outer_step, weights_step @ x + bias_step, strict=True)
        total = float(sum(remainder(*map(float, unit)) for unit in units))
        linear = gradient(split(theta), x, symbolic) @ step
        assert total == pytest.approx(output(theta + step, x, function) - output(theta, x, function) - linear, rel=1e-9)


def test_remainder_series_is_half_the_hessian_and_its_order():
    """At second order the remainder is ½ΔᵀHΔ; what is left after the third order falls as s⁴."""
    second, third = (with_activation(term, sp.tanh(z)) for term in remainder_series())
    blocks = {name: with_activation(block, sp.tanh(z)) for name, block in unit_blocks().items()}
    x = sp.Symbol("x", real=True)
    half = (2 * blocks["d2f/dadw"].subs(x, 1) * A_STEP * Z_STEP + blocks["d2f/dwdw"].subs(x, 1) * Z_STEP**2) / 2
    assert verify(second, half, rng=np.random.default_rng(0))
    exact = with_activation(linearization_remainder(), sp.tanh(z))
    left = sp.lambdify([A_STEP, Z_STEP], (exact - second - third).subs({a_w: 1.3, z: 0.4}), "mpmath")
    sizes = np.array([1e-1, 5e-2, 2.5e-2])
    errors = [abs(float(left(0.7 * size, 0.9 * size))) for size in sizes]
    assert np.polyfit(np.log(sizes), np.log(errors), 1)[0] == pytest.approx(4.0, abs=0.1)
