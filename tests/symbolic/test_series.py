"""The terms of the leave-one-out series against refits in complex weights: every order, to ten digits."""

from math import factorial

import numpy as np
import pytest
import sympy as sp
from support.problems import LOSS_NAMES, queries_for, random_glm

from trak_theory.loo.series import infinitesimal_jackknife, newton_expansion
from trak_theory.symbolic.leave_one_out_series import (
    DIRECTIONS,
    OBJECTIVE,
    POINT,
    gradient_condition,
    gradient_series,
    replication_order,
    solved_in_one_dimension,
    weight_condition,
    weight_series,
)
from trak_theory.symbolic.notation import verify

# ℓ′ and ℓ″ for complex outputs: the refit is an analytic function of the weight.
COMPLEX = {
    "squared": (lambda y, f: f - y, lambda y, f: np.ones_like(f)),
    "logistic": (lambda y, f: 1 / (1 + np.exp(-f)) - y, lambda y, f: 1 / (2 + np.exp(f) + np.exp(-f))),
    "poisson": (lambda y, f: np.exp(f) - y, lambda y, f: np.exp(f)),
    "huber": (lambda y, f: (f - y) / np.sqrt(1 + (f - y) ** 2), lambda y, f: (1 + (f - y) ** 2) ** -1.5),
}
NODES, RADIUS = 32, 0.25  # aliasing of order RADIUS^32, rounding of order 1e-16 / RADIUS^3


def solve(glm, weights, tilt, start):
    """θ with Σ_j weights_j ∇ℓ_j(θ) + λθ + tilt = 0, by Newton's method in complex arithmetic."""
    residual, curvature = COMPLEX[glm.loss.name]
    theta = start.astype(complex)
    for _ in range(30):
        outputs = glm.features @ theta
        gradient = glm.features.T @ (weights * residual(glm.targets, outputs)) + glm.ridge * theta + tilt
        hessian = (glm.features.T * (weights * curvature(glm.targets, outputs))) @ glm.features + np.diag(glm.ridge)
        theta = theta - np.linalg.solve(hessian, gradient)
    return theta


def orders_of_the_path(glm, fit, i, queries, downdated):
    """φ*ᵀθ_s / s! for s = 1, 2, 3: Taylor coefficients of refits on a circle of τ around 0, shape (3, q)."""
    nodes = RADIUS * np.exp(2j * np.pi * np.arange(NODES) / NODES)
    own = glm.features[i] * fit.residual[i]
    paths = []
    for node in nodes:
        weights = glm.weights.astype(complex)
        weights[i] *= 0.0 if downdated else 1 + node
        tilt = (1 + node) * own if downdated else 0.0 * own
        paths.append(queries @ solve(glm, weights, tilt, fit.coef))
    coefficients = np.fft.fft(np.array(paths), axis=0) / NODES
    return np.array([coefficients[s] / RADIUS**s for s in (1, 2, 3)])


@pytest.mark.parametrize("shape", [{"n": 14, "p": 4}, {"n": 7, "p": 10}], ids=["n > p", "p > n"])
@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize(
    ("function", "downdated"), [(infinitesimal_jackknife, False), (newton_expansion, True)], ids=["jackknife", "newton"]
)
def test_each_term_is_the_derivative_of_actual_refits(shape, loss, function, downdated):
    glm = random_glm(7, loss=loss, ridge=2.0, weights=True, **shape)
    fit, queries = glm.fit(), queries_for(glm, 7, q=3)
    cut = [np.zeros((len(glm.targets), 3)), *(function(fit, queries, order=s) for s in (1, 2, 3))]
    for i in (0, 3, 6):
        path = orders_of_the_path(glm, fit, i, queries, downdated)
        for s in (1, 2, 3):
            derived = (cut[s] - cut[s - 1])[i]
            expected = -((-1) ** s) * path[s - 1]
            scale = max(np.abs(path[s - 1]).max(), 1e-3 * np.abs(path[0]).max())
            np.testing.assert_allclose(derived, expected.real, atol=1e-8 * scale, err_msg=f"point {i}, order {s}")
            assert np.abs(expected.imag).max() < 1e-8 * scale


def test_terms_are_the_partitions():
    """Bell numbers: the coefficients of order s with the objective sum to B_s, those with the point to s B_{s−1}."""
    bell = [1, 1, 2, 5, 15]
    for s, terms in enumerate(weight_series().terms, start=1):
        sums = {tensor: sum(t.coefficient for t in terms if t.tensor == tensor) for tensor in ("objective", "point")}
        assert sums == {"objective": bell[s] - 1, "point": s * bell[s - 1]}
        assert all(sum(t.directions) == s - (t.tensor == "point") for t in terms)
    for s, terms in enumerate(gradient_series().terms[1:], start=2):
        assert sum(t.coefficient for t in terms) == bell[s] - 1
        assert {t.tensor for t in terms} == {"objective"}


@pytest.mark.parametrize("condition", [weight_condition, gradient_condition])
def test_one_dimensional_solution_satisfies_the_condition(condition):
    """Inserted into the optimality condition, the series leaves nothing up to τ⁴."""
    theta = solved_in_one_dimension(condition)
    left = condition().subs(dict(zip(DIRECTIONS[1:], theta, strict=True)))
    tau = sp.Symbol("tau", real=True)
    for s in range(1, 5):
        assert verify(sp.diff(left, tau, s).subs(tau, 0) / factorial(s), 0, rng=np.random.default_rng(s))


def test_quadratic_objective_has_the_known_series():
    """F″ = a, ℓ_i″ = g₂: θ(τ) = −τ g₁/(a + τ g₂)."""
    theta = solved_in_one_dimension(weight_condition)
    quadratic = {symbol: 0 for symbol in (*OBJECTIVE[3:], *POINT[3:])}
    for s, value in enumerate(theta, start=1):
        known = -POINT[1] * (-POINT[2]) ** (s - 1) * sp.factorial(s) / OBJECTIVE[2] ** s
        assert verify(value.subs(quadratic), known, rng=np.random.default_rng(s))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_replication_scales_each_order(order):
    assert replication_order(weight_condition, order) == -order
