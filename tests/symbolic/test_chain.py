"""The printed chain of rungs and gaps is what the verbs compute."""

import numpy as np
import pytest
import sympy as sp
from support.oracles import refit
from support.problems import queries_for, random_glm

from trak_theory import drop_ridge, influence, newton, project, unit_curvature
from trak_theory.attribution import trak_kernel
from trak_theory.claims.identities import refit_remainder
from trak_theory.claims.problems import Case
from trak_theory.symbolic.chain import (
    GAPS,
    NEWTON,
    RUNGS,
    downdated_inverse,
    jackknife_geometric,
    jackknife_least_squares,
    least_squares_exact,
)
from trak_theory.symbolic.notation import evaluate, h, k, verify

SHAPES = {"n > p": {"n": 30, "p": 6}, "p > n": {"n": 12, "p": 20}}


@pytest.fixture(params=SHAPES)
def case(request):
    glm = random_glm(11, **SHAPES[request.param], weights=True)
    return Case(glm.fit(), queries_for(glm, 11))


@pytest.fixture
def given(case):
    matrix = np.random.default_rng(0).standard_normal((case.lin.features.shape[1], 4)) / 2
    return {
        "refit_remainder": refit_remainder(case),
        "cross_projected": project(trak_kernel(case.lin), matrix).cross,
    }


def refits(case):
    glm, coef = case.fit.glm, case.fit.coef
    without = np.array([refit(glm, i, coef) for i in range(len(glm.targets))])
    return (coef - without) @ case.queries.T


@pytest.mark.parametrize(
    ("rung", "verb"),
    [
        ("newton", newton),
        ("influence", influence),
        ("unit curvature", lambda lin: influence(unit_curvature(lin))),
        ("no ridge", lambda lin: influence(drop_ridge(unit_curvature(lin)))),
    ],
)
def test_rungs(case, rung, verb):
    value = evaluate(RUNGS[rung], case.lin)
    np.testing.assert_allclose(value, verb(case.lin), rtol=1e-9, atol=1e-12 * np.abs(value).max())


def test_exact_rung_is_the_refit(case, given):
    """Newton plus the remainder of the refit: an identity, not an expansion. Refits are good to about 1e-10."""
    exact = refits(case)
    np.testing.assert_allclose(evaluate(RUNGS["exact"], case.lin, **given), exact, atol=1e-9 * np.abs(exact).max())


def test_gaps_are_the_differences_of_rungs(case, given):
    for name, gap in GAPS.items():
        above, below = (evaluate(RUNGS[rung], case.lin, **given) for rung in name.split(" - "))
        value = evaluate(gap, case.lin, **given)
        np.testing.assert_allclose(value, above - below, atol=1e-10 * np.abs(above).max(), err_msg=name)


def test_gaps_telescope(case, given):
    total = sum(evaluate(gap, case.lin, **given) for gap in GAPS.values())
    ends = evaluate(RUNGS["exact"], case.lin, **given) - evaluate(RUNGS["projected"], case.lin, **given)
    np.testing.assert_allclose(total, ends, atol=1e-10 * np.abs(ends).max())


def test_sherman_morrison():
    downdated, inverse = downdated_inverse()
    domains = {symbol: (-1.0, 1.0) for symbol in (downdated * inverse).free_symbols}
    rng = np.random.default_rng(0)
    assert verify(downdated * inverse, sp.eye(2), domains=domains, rng=rng)
    assert not verify(downdated * inverse, 2 * sp.eye(2), domains=domains, rng=rng)


def test_least_squares_closed_form():
    rng = np.random.default_rng(1)
    d, v = (symbol for symbol in least_squares_exact().free_symbols if str(symbol) in "dv")
    assert verify(least_squares_exact(), NEWTON.subs(h, d * v), domains={d: (0.1, 0.9), v: (0.1, 0.9)}, rng=rng)
    glm = random_glm(5, loss="squared", weights=True)
    case = Case(glm.fit(), queries_for(glm, 5))
    np.testing.assert_allclose(evaluate(NEWTON, case.lin), refits(case), rtol=1e-8)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_jackknife_of_least_squares_is_a_geometric_series(order):
    rng = np.random.default_rng(order)
    assert verify(jackknife_least_squares(order), jackknife_geometric().subs(k, order), rng=rng)
    assert verify((NEWTON - jackknife_least_squares(order)) / NEWTON, h**order, rng=rng)
    assert not verify((NEWTON - jackknife_least_squares(order)) / NEWTON, h ** (order + 1), rng=rng)
