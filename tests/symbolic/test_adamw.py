"""AdamW: printed update, D, S and second-order change against complex steps and against the optimiser."""

import numpy as np
import pytest
import sympy as sp

from trak_theory.symbolic.adamw import (
    jacobian,
    scaling,
    second_order_change,
    second_order_change_closed_form,
    tangent,
    update,
)
from trak_theory.symbolic.notation import (
    LETTERS,
    beta1,
    beta2,
    decay,
    eps,
    g,
    letters_of,
    lr,
    m,
    numeric,
    t,
    theta,
    v_t,
    verify,
    xi,
)
from trak_theory.trajectory.optimizer.steps import AdamStep

SETTINGS = {lr: 0.02, decay: 0.1, beta1: 0.9, beta2: 0.97, eps: 1e-3, t: 3}
STEP = 1e-30


def step(state, gradient):
    """One step as written in the paper of Loshchilov and Hutter, in plain numpy."""
    old, first, second = state
    first = SETTINGS[beta1] * first + (1 - SETTINGS[beta1]) * gradient
    second = SETTINGS[beta2] * second + (1 - SETTINGS[beta2]) * gradient**2
    hat_first, hat_second = first / (1 - SETTINGS[beta1] ** 3), second / (1 - SETTINGS[beta2] ** 3)
    new = old - SETTINGS[lr] * SETTINGS[decay] * old - SETTINGS[lr] * hat_first / (np.sqrt(hat_second) + SETTINGS[eps])
    return {"theta": new, "m": first, "v": second}


def values(expression, point):
    expression = sp.sympify(expression)
    known = {LETTERS[symbol].name: value for symbol, value in {**SETTINGS, **point}.items()}
    return numeric(expression)(**{letter.name: known[letter.name] for letter in letters_of(expression)})


@pytest.fixture
def point():
    rng = np.random.default_rng(4)
    draws = {symbol: rng.standard_normal(20) for symbol in (theta, m, g, xi)}
    return {**draws, v_t: rng.random(20)}


def test_update_is_the_step(point):
    new = step((point[theta], point[m], point[v_t]), point[g])
    for name, expression in update().items():
        np.testing.assert_allclose(values(expression, point), new[name], rtol=1e-14)


def test_tangent_in_D_and_S_is_the_jacobian_of_the_update():
    rng = np.random.default_rng(0)
    for key, entry in jacobian().items():
        assert verify(entry, tangent()[key], rng=rng), key


def test_jacobian_against_complex_steps(point):
    arguments = {"theta": theta, "m": m, "v": v_t, "g": g}
    for (new, old), entry in tangent().items():
        moved = {**point, arguments[old]: point[arguments[old]] + STEP * 1j}
        exact = np.imag(step((moved[theta], moved[m], moved[v_t]), moved[g])[new]) / STEP
        np.testing.assert_allclose(np.broadcast_to(values(entry, point), 20), exact, rtol=1e-12, atol=1e-15)


def test_identity_in_place_of_D_is_seen(point):
    """D is not a constant scale: with D = 1 the derivative in m is wrong by a factor."""
    wrong = -SETTINGS[lr] * SETTINGS[beta1] / (1 - SETTINGS[beta1] ** 3)
    right = values(tangent()["theta", "m"], point)
    assert np.abs(right / wrong - 1).max() > 0.5
    np.testing.assert_allclose(right / wrong, values(scaling()["D"], point), rtol=1e-12)


def test_second_order_change():
    rng = np.random.default_rng(1)
    for key, term in second_order_change().items():
        assert verify(term, second_order_change_closed_form()[key], rng=rng), key
        if key != "m":
            assert not verify(term, 2 * second_order_change_closed_form()[key], rng=rng), key


def test_second_order_change_leaves_a_third_order_error(point):
    """x′(g + sξ) − x′(g) − first order − second order = O(s³)."""
    state = point[theta], point[m], point[v_t]
    first = values(tangent()["theta", "g"], point) * point[xi]
    second = values(second_order_change_closed_form()["theta"], point)
    sizes = np.array([4e-3, 2e-3, 1e-3])
    base = step(state, point[g])["theta"]
    errors = [
        np.linalg.norm(step(state, point[g] + s * point[xi])["theta"] - base - s * first - s**2 * second) for s in sizes
    ]
    assert np.polyfit(np.log(sizes), np.log(errors), 1)[0] == pytest.approx(3.0, abs=0.1)


def test_optimiser_code_has_the_printed_tangent(point):
    optimiser = AdamStep(
        lr=SETTINGS[lr],
        weight_decay=SETTINGS[decay],
        beta1=SETTINGS[beta1],
        beta2=SETTINGS[beta2],
        eps=SETTINGS[eps],
        correction1=1 - SETTINGS[beta1] ** 3,
        correction2=1 - SETTINGS[beta2] ** 3,
        decoupled=True,
    )
    state, zero = (point[theta], point[m], point[v_t]), np.zeros(20)
    directions = {"theta": 0, "m": 1, "v": 2}
    for (new, old), entry in tangent().items():
        moved = [zero, zero, zero]
        if old != "g":
            moved[directions[old]] = np.ones(20)
        gradient = np.ones(20) if old == "g" else zero
        computed = optimiser.tangent(state, point[g], tuple(moved), gradient)[directions[new]]
        np.testing.assert_allclose(computed, np.broadcast_to(values(entry, point), 20), rtol=1e-12, atol=1e-16)
