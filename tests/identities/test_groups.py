"""Leaving out groups: what it is for single points, for the squared loss, for refits, and what the sum misses."""

import numpy as np
import pytest
from scipy.optimize import minimize
from support.problems import LOSS_NAMES, queries_for, random_glm

from trak_theory import (
    GLM,
    group_influence,
    group_interaction,
    group_newton,
    infinitesimal_jackknife,
    influence,
    leave_group_out,
    leave_one_out,
    newton,
    newton_expansion,
)

GROUPS = [[3], [0, 7], [5, 4, 30], list(range(10, 22)), [0, 7, 9], list(range(2, 40))]


def fitted(loss, **options):
    glm = random_glm(11, loss=loss, n=48, p=5, **options)
    return glm, glm.fit(), queries_for(glm, 11)


def independent_refit(glm, group, start):
    """The minimiser without the group by scipy's trust region, then five plain Newton steps."""
    keep = np.setdiff1d(np.arange(len(glm.targets)), group)
    features, targets, weights = glm.features[keep], glm.targets[keep], glm.weights[keep]

    def value(theta):
        return weights @ glm.loss.value(targets, features @ theta) + 0.5 * glm.ridge @ theta**2

    def gradient(theta):
        return features.T @ (weights * glm.loss.residual(targets, features @ theta)) + glm.ridge * theta

    def hessian(theta):
        return (features.T * (weights * glm.loss.curvature(targets, features @ theta))) @ features + np.diag(glm.ridge)

    theta = minimize(value, start, jac=gradient, hess=hessian, method="trust-exact").x
    for _ in range(5):
        theta = theta - np.linalg.solve(hessian(theta), gradient(theta))
    return theta


@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("options", [{}, {"weights": True, "intercept": True}, {"ridge": [0.3, 1, 2, 5, 9]}], ids=str)
def test_exact_influence_of_groups_is_that_of_refits(loss, options):
    glm, fit, queries = fitted(loss, **options)
    found = leave_group_out(fit, GROUPS, queries)
    for g, group in enumerate(GROUPS):
        coef = independent_refit(glm, group, fit.coef)
        assert np.allclose(found.influence[g], queries @ (fit.coef - coef), atol=1e-9)
        assert np.allclose(found.coef[g], coef, atol=1e-9)
    assert (found.radius < 1e-6).all()
    assert not found.unresolved


@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("p", [5, 70])
def test_a_group_of_one_point_is_that_point(loss, p):
    glm = random_glm(2, loss=loss, n=40, p=p)
    fit, queries = glm.fit(), queries_for(glm, 2)
    groups = leave_group_out(fit, [[i] for i in range(40)], queries)
    points = leave_one_out(fit, queries)
    assert (np.abs(groups.influence - points.influence) <= groups.radius + points.radius).all()
    assert np.allclose(group_newton(fit.linearize(queries), np.arange(40)[:, None]), newton(fit.linearize(queries)))


def test_group_newton_is_exact_for_the_squared_loss_and_only_there():
    for loss in ("squared", "logistic"):
        _, fit, queries = fitted(loss)
        gap = group_newton(fit.linearize(queries), GROUPS) - leave_group_out(fit, GROUPS, queries).influence
        assert (np.abs(gap).max() < 1e-12) == (loss == "squared")


def test_group_newton_is_the_formula_in_inner_products():
    _, fit, queries = fitted("logistic", weights=True)
    lin = fit.linearize(queries)
    hessian = (lin.features.T * lin.curvature) @ lin.features + np.diag(lin.ridge)
    kernel = lin.features @ np.linalg.solve(hessian, np.vstack([lin.features, queries]).T)
    for g, group in enumerate(GROUPS):
        inner = np.eye(len(group)) - kernel[np.ix_(group, group)] * lin.curvature[group]
        expected = -lin.residual[group] @ np.linalg.solve(inner, kernel[group][:, len(lin.features) :])
        assert np.allclose(group_newton(lin, GROUPS)[g], expected)


def test_the_additive_rung_is_a_sum_over_members():
    _, fit, queries = fitted("poisson")
    lin = fit.linearize(queries)
    assert np.allclose(group_influence(lin, GROUPS)[2], influence(lin)[[5, 4, 30]].sum(0))


@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_the_first_orders_of_both_series_are_the_rungs(loss):
    _, fit, queries = fitted(loss)
    lin = fit.linearize(queries)
    assert np.allclose(newton_expansion(fit, queries, order=1, groups=GROUPS), group_newton(lin, GROUPS))
    assert np.allclose(infinitesimal_jackknife(fit, queries, order=1, groups=GROUPS), group_influence(lin, GROUPS))


def test_interaction_is_exact_for_the_squared_loss():
    _, fit, queries = fitted("squared")
    points, groups = leave_one_out(fit, queries).influence, leave_group_out(fit, GROUPS, queries).influence
    missed = groups - np.array([points[group].sum(0) for group in GROUPS])
    assert np.allclose(group_interaction(fit, GROUPS, queries), missed, atol=1e-12)
    assert np.abs(group_interaction(fit, [[3], [8]], queries)).max() < 1e-15


def copies(glm, count):
    return GLM(
        np.repeat(glm.features, count, axis=0),
        np.repeat(glm.targets, count),
        loss=glm.loss,
        ridge=count * glm.ridge,
    )


@pytest.mark.parametrize(("loss", "order"), [("logistic", 1), ("logistic", 2), ("poisson", 2), ("huber", 2)])
def test_error_of_the_interaction_falls_with_its_order(loss, order):
    glm = random_glm(5, loss=loss, n=30, p=3)
    errors = []
    for count in (4, 16):
        many = copies(glm, count)
        fit, queries = many.fit(), queries_for(glm, 5)
        groups = [[0, 5 * count], [7 * count, 9 * count, 12 * count]]
        points, truth = leave_one_out(fit, queries).influence, leave_group_out(fit, groups, queries).influence
        missed = truth - np.array([points[group].sum(0) for group in groups])
        errors.append(np.linalg.norm(group_interaction(fit, groups, queries, order=order) - missed))
    slope = np.log(errors[1] / errors[0]) / np.log(4)
    assert abs(slope + order + 1) < 0.25


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_leading_interaction_of_a_pair_is_the_derived_one(loss):
    """−φ*ᵀθ_ij with −Hθ_ij = D³F[θ_i, θ_j] + D²ℓ_i[θ_j] + D²ℓ_j[θ_i], written out."""
    glm = random_glm(5, loss=loss, n=30, p=3)
    many = copies(glm, 200)
    fit, queries = many.fit(), queries_for(glm, 5)
    lin, i, j = fit.linearize(queries), 0, 1000
    hessian = (lin.features.T * lin.curvature) @ lin.features + np.diag(lin.ridge)
    theta_i, theta_j = (-np.linalg.solve(hessian, lin.residual[k] * lin.features[k]) for k in (i, j))
    third = many.loss.third(many.targets, fit.outputs)
    force = lin.features.T @ (third * (lin.features @ theta_i) * (lin.features @ theta_j))
    force += lin.curvature[i] * lin.features[i] * (lin.features[i] @ theta_j)
    force += lin.curvature[j] * lin.features[j] * (lin.features[j] @ theta_i)
    leading = queries @ np.linalg.solve(hessian, force)
    ij = infinitesimal_jackknife(fit, queries, order=2, groups=[[i, j], [i], [j]])
    assert np.allclose(ij[0] - ij[1] - ij[2], leading, rtol=1e-6, atol=1e-14)
    assert np.allclose(group_interaction(fit, [[i, j]], queries)[0], leading, rtol=0.05, atol=1e-10)


def test_the_one_dimensional_interaction_is_the_derivative_of_the_minimiser():
    import sympy as sp

    from trak_theory.symbolic.leave_one_out_series import OBJECTIVE, OTHER_POINT, POINT, interaction_in_one_dimension

    def minimiser(first, second):
        theta = 0.0
        for _ in range(50):  # F = θ² + θ³/6 + θ⁴/24, ℓ_i = .3θ + .2θ², ℓ_j = −.5θ + .35θ²
            slope = 2 * theta + theta**2 / 2 + theta**3 / 6 + first * (0.3 + 0.4 * theta)
            slope += second * (-0.5 + 0.7 * theta)
            theta -= slope / (2 + theta + theta**2 / 2 + 0.4 * first + 0.7 * second)
        return theta

    h = 1e-3
    mixed = sum(s * t * minimiser(s * h, t * h) for s in (1, -1) for t in (1, -1)) / (4 * h * h)
    values = {OBJECTIVE[2]: 2, OBJECTIVE[3]: 1, POINT[1]: 0.3, POINT[2]: 0.4, OTHER_POINT[1]: -0.5, OTHER_POINT[2]: 0.7}
    assert float(sp.N(interaction_in_one_dimension().subs(values))) == pytest.approx(mixed, rel=1e-5)


def test_group_newton_is_undefined_where_one_point_of_the_group_holds_a_direction_alone():
    """Without ridge: the first point is alone on the first column, the second shares its own with two others."""
    features = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 2.0]])
    lin = GLM(features, [1.0, 2.0, 3.0, 4.0]).fit().linearize(np.eye(2))
    found = group_newton(lin, [[0, 1], [1, 2]])
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()
