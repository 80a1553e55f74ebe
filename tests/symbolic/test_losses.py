"""The numeric losses against the derivatives of their definitions, in arithmetic with thousands of digits."""

import mpmath
import numpy as np
import pytest
import sympy as sp

from trak_theory import Logistic, Poisson, PseudoHuber, Squared
from trak_theory.symbolic.losses import ORDERS, formulas, numeric_derivative
from trak_theory.symbolic.notation import MPMATH, delta, f, verify, y

LOSSES = [Squared(), Logistic(), Poisson(), PseudoHuber(), PseudoHuber(0.3)]
TARGETS = {"squared": (-1.5, 2.0), "logistic": (0.0, 1.0), "poisson": (0.0, 3.0), "huber": (-1.5, 2.0)}
OUTPUTS = (0.0, 1e-3, 0.7, 3.0, 31.0, 300.0, 700.0, 1e4)
ROUNDING = 2e-14  # a power −7 of a number rounded once, and a few operations more


@pytest.mark.parametrize("name", formulas())
@pytest.mark.parametrize("order", range(5))
def test_stable_form_is_the_derivative_of_the_definition(name, order):
    formula = formulas()[name]
    assert verify(formula.derivative(order), formula.stable[order], rng=np.random.default_rng(order))


def test_a_flipped_sign_is_seen():
    formula = formulas()["logistic"]
    assert not verify(formula.derivative(3), -formula.stable[3], rng=np.random.default_rng(0))


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("order", range(5))
def test_numeric_losses_to_rounding_up_to_ten_thousand(loss, order):
    """The raw derivative cancels to e^{−|f|}, so it is evaluated with 3|f| digits to spare."""
    raw = sp.lambdify([f, y, delta], formulas()[loss.name].derivative(order), MPMATH)
    for output in (sign * size for size in OUTPUTS for sign in (-1, 1)):
        if loss.name == "poisson" and output > 709:
            continue  # e^f itself overflows
        for target in TARGETS[loss.name]:
            with mpmath.workdps(60 + int(3 * abs(output))):
                exact = float(raw(mpmath.mpf(output), mpmath.mpf(target), mpmath.mpf(width(loss))))
            computed = float(numeric(loss, order, target, output))
            floor = 1e-300 if order else 1e-16 * abs(target * output)  # the value is a difference, its slopes are not
            assert computed == pytest.approx(exact, rel=ROUNDING, abs=floor), (output, target)


def numeric(loss, order, target, output):
    target, output = np.array([target]), np.array([output])
    if order == 4:
        return numeric_derivative(loss.name, 4, target=target, output=output, width=width(loss))[0]
    return getattr(loss, ORDERS[order])(target, output)[0]


def width(loss):
    return getattr(loss, "delta", 1.0)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_declared_self_concordance_is_the_supremum(loss):
    derived = formulas()[loss.name].self_concordance().subs(delta, width(loss))
    assert loss.self_concordance == pytest.approx(float(derived))


@pytest.mark.parametrize("name", formulas())
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_the_numpy_function_is_the_loss(name, order):
    rng = np.random.default_rng(order)
    loss = next(loss for loss in LOSSES if loss.name == name)
    target, output = rng.integers(0, 2, 50).astype(float), rng.uniform(-20, 20, 50)
    derived = numeric_derivative(name, order, target=target, output=output)
    assert derived.shape == (50,)
    if order < 4:
        np.testing.assert_allclose(derived, getattr(loss, ORDERS[order])(target, output), rtol=1e-13)
