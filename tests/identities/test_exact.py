"""Exact leave-one-out against brute-force refits, with the certified radius, in every regime."""

from dataclasses import replace

import mpmath
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes
from support.oracles import refit
from support.problems import LOSS_NAMES, design, queries_for, random_glm, targets_for

from trak_theory import GLM, leave_one_out, newton

ROUNDING = 1e-12  # of the oracle's own normal equations, relative to the query's rms influence, at condition ≤ 1e4
MANY = 1000


def check(glm, queries, *, accuracy=1e-8, rounding=ROUNDING):
    """Every entry within radius + rounding of a refit, and within `accuracy` of the rms; all rows or 60 of them."""
    fit = glm.fit()
    exact = leave_one_out(fit, queries)
    assert exact.unresolved == {}
    rms = np.sqrt(np.mean(exact.influence**2, axis=0))
    rows = range(len(glm.targets))
    if len(glm.targets) >= MANY:
        highest = np.argsort(-fit.linearize(queries).leverage)[:10]
        rows = np.r_[highest, np.random.default_rng(0).choice(len(glm.targets), 40, replace=False)]
    for i in rows:
        truth = queries @ (fit.coef - refit(glm, i, fit.coef))
        error = np.abs(exact.influence[i] - truth)
        assert np.all(error <= exact.radius[i] + rounding * rms), i
        assert np.all(error <= accuracy * rms), i
    assert np.allclose(queries @ (fit.coef - exact.coef).T, exact.influence.T, atol=1e-9 * rms.max())
    return exact, rms


@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize(
    ("n", "p", "ridge", "extra"),
    [
        (60, 6, 0.5, {}),
        (60, 30, 1.0, {}),
        (40, 90, 1.0, {}),
        (40, 90, 1.0, {"intercept": True, "weights": True}),
        (60, 8, 0.5, {"intercept": True}),
        (60, 8, 0.5, {"weights": True, "condition": 1e4}),
        (50, 5, np.array([0.1, 1.0, 10.0, 3.0, 0.0]), {}),
    ],
    ids=["p<n", "p=n/2", "p>n", "p>n intercept weights", "intercept", "condition 1e4", "ridge per coefficient"],
)
def test_every_loss_in_every_shape(loss, n, p, ridge, extra):
    glm = random_glm(7, n=n, p=p, loss=loss, ridge=ridge, **extra)
    check(glm, queries_for(glm, 7))


@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_high_leverage_and_duplicated_rows(loss):
    rng = np.random.default_rng(5)
    features = design(rng, 50, 6)
    features[3] *= 60.0
    features[11] = features[10]
    features[12] = 0.0
    targets = targets_for(rng, loss, features @ rng.standard_normal(6) / 60.0)
    targets[11] = targets[10]
    glm = GLM(features, targets, loss=loss, ridge=0.3)
    queries = rng.standard_normal((4, 6))
    exact, _ = check(glm, queries)
    assert np.array_equal(exact.influence[10], exact.influence[11]) or np.allclose(
        exact.influence[10], exact.influence[11], rtol=1e-9
    )
    assert np.all(exact.influence[12] == 0)
    if loss == "squared":
        assert glm.fit().linearize(queries).leverage[3] > 0.99


@pytest.mark.parametrize("ridge", [1.0, 0.01])
def test_breast_cancer(ridge):
    features, targets = load_breast_cancer(return_X_y=True)
    features = np.column_stack([(features - features.mean(0)) / features.std(0), np.ones(len(features))])
    ridges = np.r_[np.full(30, ridge), 0.0]
    glm = GLM(features, targets.astype(float), loss="logistic", ridge=ridges)
    exact, rms = check(glm, features[:10], rounding=1e-10)  # the oracle's Hessian reaches condition 1e6 here
    assert np.all(exact.radius <= 1e-8 * rms)


def test_diabetes():
    features, targets = load_diabetes(return_X_y=True)
    glm = GLM(features * 20, targets / 50, loss="huber", ridge=1.0)
    check(glm, features[:10] * 20)


@pytest.mark.slow
def test_where_the_plain_chord_iteration_diverges():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((1000, 500))
    targets = targets_for(rng, "logistic", features @ rng.standard_normal(500) * 2 / np.sqrt(500))
    exact, rms = check(GLM(features, targets, loss="logistic", ridge=1.0), rng.standard_normal((5, 500)))
    assert np.all(exact.radius <= 1e-8 * rms)


def exact_in_high_precision(features, targets, queries, ridge):
    """Least-squares leave-one-out in sixty digits."""
    mpmath.mp.dps = 60
    rows, y = mpmath.matrix(features.tolist()), mpmath.matrix(targets.tolist())
    hessian = rows.T * rows + mpmath.eye(features.shape[1]) * mpmath.mpf(ridge)
    moment = rows.T * y
    full = mpmath.lu_solve(hessian, moment)
    influences = []
    for i in range(len(targets)):
        row = rows[i, :]
        left = mpmath.lu_solve(hessian - row.T * row, moment - row.T * y[i])
        influences.append([float(value) for value in mpmath.matrix(queries.tolist()) * (full - left)])
    return np.array(influences)


@pytest.mark.parametrize("ridge", [0.0, 1e-3])
@pytest.mark.parametrize("condition", [1e2, 1e8])
def test_least_squares_newton_is_exact_and_the_radius_covers_the_condition(condition, ridge):
    rng = np.random.default_rng(1)
    features = design(rng, 30, 6, condition)
    targets = rng.standard_normal(30)
    queries = rng.standard_normal((4, 30)) @ features
    fit = GLM(features, targets, ridge=ridge).fit()
    exact = leave_one_out(fit, queries)
    truth = exact_in_high_precision(features, targets, queries, ridge)
    rms = np.sqrt(np.mean(truth**2, axis=0))
    assert np.all(np.abs(newton(fit.linearize(queries)) - exact.influence) <= 1e-10 * rms)
    assert np.all(np.abs(exact.influence - truth) <= exact.radius)
    # Normal equations would lose everything at condition 1e8; QR loses only ε · condition.
    assert np.all(np.abs(exact.influence - truth) <= 100 * 2.2e-16 * condition * rms)


def test_a_row_without_a_minimiser_has_an_infinite_radius_and_the_reason():
    rng = np.random.default_rng(2)
    features = np.column_stack([rng.standard_normal((30, 3)), np.zeros(30)])
    features[4, 3] = 1.0  # a column that only one point has, without a ridge
    targets = rng.poisson(1.0, 30) + 1.0
    exact = leave_one_out(GLM(features, targets, loss="poisson").fit(), features[:3])
    assert list(exact.unresolved) == [4]
    assert "leverage 1" in exact.unresolved[4]
    assert "add a ridge" in exact.unresolved[4]
    assert np.all(np.isinf(exact.radius[4]))
    assert np.all(np.isnan(exact.influence[4]))
    assert np.all(np.isfinite(np.delete(exact.radius, 4, 0)))


def test_removing_the_point_that_keeps_the_classes_apart():
    features = np.column_stack([np.r_[-3.0, -2.0, -1.0, 1.0, 2.0, 3.0], np.ones(6)])
    targets = np.array([0.0, 0.0, 1.0, 0.0, 1.0, 1.0])
    exact = leave_one_out(GLM(features, targets, loss="logistic").fit(), features[:2])
    assert set(exact.unresolved) == {2, 3}
    assert "separable" in exact.unresolved[2]
    assert np.all(np.isinf(exact.radius[[2, 3]]))


def test_a_looser_tolerance_is_honoured():
    glm = random_glm(3, n=200, p=20)
    queries = queries_for(glm, 3)
    exact, loose = (leave_one_out(glm.fit(), queries, tol=tol) for tol in (1e-10, 1e-4))
    rms = np.sqrt(np.mean(exact.influence**2, axis=0))
    assert np.all(exact.radius <= 1e-10 * rms)
    assert np.all(loose.radius <= 1e-4 * rms)
    assert np.all(np.abs(loose.influence - exact.influence) <= loose.radius + exact.radius)


def test_a_loss_of_ones_own():
    from trak_theory import Loss

    class LogCosh(Loss):
        name = "log cosh"

        def value(self, targets, outputs):
            return np.logaddexp(outputs - targets, targets - outputs) - np.log(2.0)

        def residual(self, targets, outputs):
            return np.tanh(outputs - targets)

        def curvature(self, targets, outputs):
            return 1 / np.cosh(outputs - targets) ** 2

        def third(self, targets, outputs):
            return -2 * np.tanh(outputs - targets) / np.cosh(outputs - targets) ** 2

    rng = np.random.default_rng(4)
    features = design(rng, 40, 5)
    targets = features @ rng.standard_normal(5) + rng.standard_normal(40)
    penalised = GLM(features, targets, loss=LogCosh(), ridge=1.0)
    exact, rms = check(penalised, features[:4])
    assert np.all(exact.radius <= 1e-8 * rms)
    free = leave_one_out(GLM(features, targets, loss=LogCosh()).fit(), features[:4])
    assert np.all(np.isinf(free.radius))
    assert "no certificate exists" in free.unresolved[0]
    assert np.all(np.isfinite(free.influence))


def test_far_out_the_objective_is_infinite_and_a_point_of_weight_zero_adds_nothing():
    """A chord iteration that runs away hands such points to its refit, which compares them."""
    glm = random_glm(1, n=24, p=4, loss="poisson", weights=True)
    objective = glm.fit().objective
    far = 1e15 * np.linalg.lstsq(objective.features, np.eye(24)[0])[0]
    assert objective.value(far) == np.inf
    weights = np.where(objective.features @ far > 700, 0.0, 1.0)
    assert weights.min() == 0
    assert np.isfinite(replace(objective, weights=weights).value(far))


def test_a_row_that_refits_alone_is_certified_to_its_own_optimum():
    """One row of length 1e5 pushes the leverage of another so near 1 that it is refitted."""
    features = np.array([[-4e4, 12e4], [1.4, 0.3], [0.4, -0.5], [-0.9, -0.9], [-1, 0.9], [-0.1, 0.1]])
    fit = GLM(features, [0, 1, 1, 0, 0, 1], loss="logistic", ridge=1e-2).fit()
    exact = leave_one_out(fit, [[1.0, 1.0]])
    assert abs(exact.influence[5, 0] + 0.069804130920361743) <= exact.radius[5, 0] <= 1e-12


def test_leverage_one_in_floating_point_is_infinite_with_the_reason():
    """Without row 0 every row is a multiple of (550, −19)."""
    rows = [[8771, -303], [-3850, 133], [550, -19], [-1650, 57], [1650, -57], [0, 0], [-1650, 57], [-5500, 190]]
    exact = leave_one_out(GLM(rows, [-2.25, -0.5, 2.5, -1, 0.125, 1.8125, -0.625, 1.125]).fit(), [[1.0, 1.0]])
    assert np.isinf(exact.radius[0, 0])
    assert list(exact.unresolved) == [0]
    assert "leverage 1" in exact.unresolved[0]
    assert "rank deficient" in exact.unresolved[0]


def test_counts_of_a_million():
    """Values of the objective lose more to the cancellation of e^f − yf + log y! than a last Newton step gains."""
    for seed in (1, 4, 14, 15):
        rng = np.random.default_rng(seed)
        features = rng.standard_normal((20, 2))
        features[:, -1] = 1.0
        check(GLM(features, rng.poisson(1e6, 20), loss="poisson"), features[:3])
