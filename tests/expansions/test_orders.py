"""Orders of the leave-one-out series, on data copied m times and in the leverage."""

import numpy as np
import pytest
from support.oracles import refit
from support.problems import LOSS_NAMES, queries_for, random_glm

from trak_theory import GLM, Logistic, influence, leave_one_out, newton
from trak_theory.claims.expansions import SERIES, replication
from trak_theory.claims.problems import draw_glm, replicated
from trak_theory.loo.series import infinitesimal_jackknife, newton_expansion
from trak_theory.numerics.estimate import mean

ORDER_TOLERANCE = 0.1
BOTH = (infinitesimal_jackknife, newton_expansion)


@pytest.fixture(scope="module", params=["logistic", "poisson"])
def replications(request):
    return replication(request.param)(np.random.default_rng(1))


@pytest.mark.parametrize("name", SERIES)
def test_error_falls_as_a_power_of_the_number_of_copies(replications, name):
    series, order, _ = SERIES[name]
    slope = mean([one.slope(series) for one in replications])
    assert slope.value == pytest.approx(order, abs=ORDER_TOLERANCE)
    assert slope.se < ORDER_TOLERANCE / 2


def test_copies_by_weights_are_copies():
    """The weights m − 1 and 1 stand for m copies: the refits without one copy agree with those on copied rows."""
    data = features, targets, queries = draw_glm("logistic", n=15, p=3, ridge=0.5, rng=np.random.default_rng(2))
    case = replicated("logistic", 4, data, ridge=0.5)
    copied = GLM(np.tile(features, (4, 1)), np.tile(targets, 4), loss="logistic", ridge=4 * 0.5)
    exact = leave_one_out(copied.fit(), queries).influence[:15]
    np.testing.assert_allclose(case.exact().influence[15:], exact, rtol=1e-7)
    for function in BOTH:
        for order in (1, 2, 3):
            by_weights = function(case.fit, queries, order=order)[15:]
            np.testing.assert_allclose(by_weights, function(copied.fit(), queries, order=order)[:15], rtol=1e-7)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_least_squares_errs_by_the_leverage_to_the_order(order):
    """For every row and query; the slope of the relative error in the leverage is the order itself."""
    glm = random_glm(4, loss="squared", weights=True, condition=100.0, ridge=0.1)
    fit, queries = glm.fit(), queries_for(glm, 4)
    exact = np.array([(fit.coef - refit(glm, i, fit.coef)) @ queries.T for i in range(len(glm.targets))])
    relative = (exact - infinitesimal_jackknife(fit, queries, order=order)) / exact
    leverage = fit.linearize(queries).leverage
    expected = np.broadcast_to(leverage[:, None] ** order, exact.shape)
    np.testing.assert_allclose(relative, expected, atol=1e-9)
    slopes = np.polyfit(np.log(leverage), np.log(np.abs(relative).mean(1)), 1)[0]
    assert slopes == pytest.approx(order, abs=1e-5)
    assert leverage.max() > 2 * leverage.min()


@pytest.mark.parametrize("shape", [{"n": 30, "p": 6}, {"n": 10, "p": 16}], ids=["n > p", "p > n"])
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_first_orders_are_the_verbs(shape, loss):
    glm = random_glm(5, loss=loss, weights=True, **shape)
    fit, queries = glm.fit(), queries_for(glm, 5)
    lin = fit.linearize(queries)
    np.testing.assert_allclose(infinitesimal_jackknife(fit, queries, order=1), influence(lin), rtol=1e-12)
    np.testing.assert_allclose(newton_expansion(fit, queries, order=1), newton(lin), rtol=1e-10)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_newton_expansion_of_least_squares_is_exact_at_every_order(order):
    glm = random_glm(6, loss="squared")
    fit, queries = glm.fit(), queries_for(glm, 6)
    np.testing.assert_allclose(newton_expansion(fit, queries, order=order), newton(fit.linearize(queries)), rtol=1e-12)


@pytest.mark.parametrize("function", BOTH)
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_blocks_do_not_matter(monkeypatch, function, loss):
    glm = random_glm(7, loss=loss)
    fit, queries = glm.fit(), queries_for(glm, 7)
    whole = function(fit, queries, order=3)
    monkeypatch.setattr("trak_theory.loo.series.BLOCK", 7)
    np.testing.assert_allclose(function(fit, queries, order=3), whole, rtol=1e-10, atol=1e-16)


def test_leverage_one_has_no_newton_step():
    features = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    fit = GLM(features, np.array([0.0, 1.0, 3.0])).fit()
    values = newton_expansion(fit, np.eye(2), order=2)
    assert np.isnan(values[2]).all()
    assert np.isfinite(values[:2]).all()
    assert np.isfinite(infinitesimal_jackknife(fit, np.eye(2), order=3)).all()


class Renamed(Logistic):
    """A user's own loss under a built-in's name: it has no derived fourth derivative."""


@pytest.mark.parametrize("function", BOTH)
def test_orders_that_do_not_exist_are_refused(function):
    glm = random_glm(8)
    own = GLM(glm.features, glm.targets, loss=Renamed(), ridge=1.0).fit()
    queries = queries_for(glm, 8)
    with pytest.raises(ValueError, match="use 1 to 3"):
        function(own, queries, order=4)
    with pytest.raises(ValueError, match="use order 1 or 2"):
        function(own, queries, order=3)
    with pytest.raises(TypeError, match="integer"):
        function(own, queries, order=1.5)
    np.testing.assert_allclose(function(own, queries, order=2), function(glm.fit(), queries, order=2), rtol=1e-12)
