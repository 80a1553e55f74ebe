"""The isotropic least-squares law, as derived, against its closed form and against simulation."""

import numpy as np
import pytest

from trak_theory import GLM, agreement, influence, newton, trak
from trak_theory.laws.rank_law import rank_law
from trak_theory.symbolic.isotropic import (
    kernel_equations,
    slope,
    slope_on_influence,
    specialisation,
    squared_correlation,
    state_equation,
)
from trak_theory.symbolic.notation import df, e2, eta, gamma, k, lamda, mu, n, p, verify

CLOSED_FORM = (k / (n - k)) / (p / (n - p))
POINTS, PARAMETERS, DIMENSION, DATA_SETS = 500, 200, 120, 16
Z_LIMIT = 4.0


def test_specialisation_solves_the_general_equations():
    rng = np.random.default_rng(0)
    for equation in (state_equation(), *kernel_equations()):
        sides = (side.subs({lamda: 0, mu: 0}).subs(specialisation()) for side in (equation.lhs, equation.rhs))
        assert verify(*sides, rng=rng)


def test_derived_correlation_is_the_closed_form():
    rng = np.random.default_rng(1)
    assert verify(squared_correlation(), CLOSED_FORM, rng=rng)
    assert verify(squared_correlation(), (e2 / eta).subs(specialisation()), rng=rng)
    assert specialisation()[df] == k
    assert verify(specialisation()[gamma], (p - k) * (n - k) / k, rng=rng)


def test_slopes():
    """The slope equals ρ² on the influence function, and ρ²(1 − p/n) on the exact influence."""
    rng = np.random.default_rng(2)
    assert verify(slope_on_influence(), squared_correlation(), rng=rng)
    assert verify(slope(), squared_correlation() * (1 - p / n), rng=rng)
    assert not verify(slope(), squared_correlation(), rng=rng)


def test_the_numeric_law_is_the_derived_one():
    law = rank_law(n=POINTS, p=PARAMETERS, k=DIMENSION, ridge=0.0, signal=1.0, loss="squared")
    values = {n: POINTS, p: PARAMETERS, k: DIMENSION}
    assert law.pearson**2 == pytest.approx(float(squared_correlation().subs(values)), rel=1e-6)
    assert law.slope == pytest.approx(float(slope().subs(values)), rel=1e-6)


@pytest.fixture(scope="module")
def agreements():
    """(TRAK against exact, TRAK against the influence function) for each data set; newton is exact here."""
    pairs = []
    for rng in np.random.default_rng(3).spawn(DATA_SETS):
        rows = rng.standard_normal((POINTS + 40, PARAMETERS))
        targets = rows[:POINTS] @ rng.standard_normal(PARAMETERS) + rng.standard_normal(POINTS)
        lin = GLM(rows[:POINTS], targets).fit().linearize(rows[POINTS:])
        scores = trak(lin, k=DIMENSION, rng=rng)
        pairs.append((agreement(newton(lin), scores), agreement(influence(lin), scores)))
    return pairs


def z_score(values, expression):
    expected = float(expression.subs({n: POINTS, p: PARAMETERS, k: DIMENSION}))
    return (np.mean(values) - expected) / (np.std(values, ddof=1) / np.sqrt(len(values)))


def test_correlation_against_simulation(agreements):
    assert abs(z_score([exact.pearson for exact, _ in agreements], squared_correlation() ** 0.5)) < Z_LIMIT


def test_slopes_against_simulation(agreements):
    on_exact = [exact.slope for exact, _ in agreements]
    assert abs(z_score(on_exact, slope())) < Z_LIMIT
    assert abs(z_score([first.slope for _, first in agreements], slope_on_influence())) < Z_LIMIT
    assert abs(z_score(on_exact, slope_on_influence())) > Z_LIMIT
