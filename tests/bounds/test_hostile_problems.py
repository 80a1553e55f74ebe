"""Certified radii hold on hostile problems, against a truth in sixty digits that shares no code with the library."""

from fractions import Fraction

import numpy as np
import pytest
from scipy.linalg import qr

from simulations.workloads.hostile_problems import FAMILIES, METHODS, hostile_problems, survey
from simulations.workloads.truth_in_60_digits import CONTEXT, NoUniqueMinimiserError, Truth, exactly
from trak_theory.loo.rounding import factor_error, whitening_error
from trak_theory.numerics.whitening import row_space, whiten

RADII = 30_000
WIDEST = 1e3  # median radius/error on well-posed problems
# Largest share of entries without a finite radius on well-posed problems.
INFINITE = {"leave_one_out": 0.0, "newton_interval": 0.2, "newton_interval, 2 chord steps": 0.1}


@pytest.fixture(scope="module")
def verdicts():
    return survey(np.random.default_rng(0), RADII)


def test_no_radius_is_false(verdicts):
    assert sum(len(verdict.ratios) for verdict in verdicts.values()) >= RADII
    assert {key: verdict.false for key, verdict in verdicts.items() if verdict.false} == {}


@pytest.mark.parametrize("method", METHODS)
def test_radii_are_not_vacuous(verdicts, method):
    plain = verdicts[method, "well_posed"]
    assert np.median(plain.ratios) >= 1 / WIDEST
    assert plain.infinite <= INFINITE[method] * (plain.infinite + len(plain.ratios))
    for family in FAMILIES:
        assert len(verdicts[method, family].ratios) > verdicts[method, family].infinite, family


def test_families_in_turn_and_reproducible():
    first, again = (hostile_problems(np.random.default_rng(1)) for _ in range(2))
    drawn = [next(first) for _ in range(2 * len(FAMILIES))]
    assert [problem.family for problem in drawn] == 2 * list(FAMILIES)
    assert all(np.array_equal(problem.queries, next(again).queries) for problem in drawn)


def least_squares(rows, targets, ridge):
    """min ½|y − Φθ|² + ½λ|θ|² in rational arithmetic, two coefficients."""
    rows = [[Fraction(x) for x in row] for row in rows]
    a, b, d = (sum(row[j] * row[k] for row in rows) + Fraction(ridge) * (j == k) for j, k in ((0, 0), (0, 1), (1, 1)))
    u, v = (sum(row[j] * Fraction(y) for row, y in zip(rows, targets, strict=True)) for j in (0, 1))
    return (d * u - b * v) / (a * d - b * b), (a * v - b * u) / (a * d - b * b)


def test_the_truth_is_that_of_rational_arithmetic():
    rng = np.random.default_rng(2)
    features, targets = rng.standard_normal((6, 2)) * [1e9, 1e-7], rng.standard_normal(6)
    truth = Truth(features, targets, "squared", np.full(2, 1e-12), np.ones(6), np.zeros(6), np.zeros(2))
    found = truth.influence(3, np.eye(2), np.zeros(2))
    full = least_squares(features.tolist(), targets.tolist(), 1e-12)
    left = least_squares(np.delete(features, 3, 0).tolist(), np.delete(targets, 3).tolist(), 1e-12)
    for value, whole, part in zip(found, full, left, strict=True):
        exact = CONTEXT.mpf((whole - part).numerator) / CONTEXT.mpf((whole - part).denominator)
        assert abs(value - exact) <= abs(exact) * CONTEXT.mpf(10) ** -60


@pytest.mark.parametrize("loss", ["logistic", "poisson", "huber"])
def test_the_truth_has_no_gradient(loss):
    rng = np.random.default_rng(3)
    features, targets, ridge = rng.standard_normal((7, 3)), (np.arange(7) % 2).astype(float), np.full(3, 1e-6)
    truth = Truth(features, targets, loss, ridge, np.ones(7), np.zeros(7), np.zeros(3), 0.5)
    theta, slopes = exactly(features.tolist()) @ truth.minimiser, []
    for y, f in zip(targets, theta, strict=True):
        value = {
            "logistic": lambda t, y=y: CONTEXT.log(1 + CONTEXT.exp(t)) - y * t,
            "poisson": lambda t, y=y: CONTEXT.exp(t) - y * t,
            "huber": lambda t, y=y: CONTEXT.sqrt(1 + ((t - y) / 0.5) ** 2) / 4,
        }[loss]
        slopes.append(CONTEXT.diff(value, f))
    gradient = np.array(slopes) @ exactly(features.tolist()) + exactly(ridge.tolist()) * truth.minimiser
    assert max(abs(gradient)) < 1e-40


def test_the_truth_knows_when_there_is_no_unique_minimiser():
    twice, labels = np.array([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]]), np.array([0.0, 1.0, 1.0])
    for features, loss in ((twice, "squared"), (np.array([[-1.0], [1.0], [2.0]]), "logistic")):
        p = features.shape[1]
        truth = Truth(features, labels, loss, np.zeros(p), np.ones(3), np.zeros(3), np.zeros(p))
        with pytest.raises(NoUniqueMinimiserError):
            _ = truth.minimiser


def solved_in_sixty_digits(factor, rows):
    """rows R⁻¹ by substitution."""
    factor = exactly(factor.tolist())
    solution = rows.copy()
    for k in range(len(factor)):
        solution[:, k] = (rows[:, k] - solution[:, :k] @ factor[:k, k]) / factor[k, k]
    return solution


DESIGNS = {
    "gaussian": lambda rng, n, m: rng.standard_normal((n, m)),
    "positive": lambda rng, n, m: rng.random((n, m)),
    "offset": lambda rng, n, m: rng.standard_normal((n, m)) + 1e6,
    "graded": lambda rng, n, m: rng.standard_normal((n, m)) * 10.0 ** rng.uniform(-8, 8, (n, 1)),
    "ill-conditioned": lambda rng, n, m: (
        rng.standard_normal((n, m)) * np.logspace(0, -7, m) @ rng.standard_normal((m, m))
    ),
}


@pytest.mark.parametrize("kind", DESIGNS)
@pytest.mark.parametrize("shape", [(8, 2), (20, 6), (40, 20)], ids=str)
def test_errors_of_whitening_and_of_the_factor(kind, shape):
    """Four units of the root sum of squares hold, and are no more than a few hundred times the error."""
    ratios = []
    for seed in range(3):
        features = DESIGNS[kind](np.random.default_rng(seed), *shape)
        (factor,) = qr(features, mode="r", check_finite=False)
        factor = factor[: shape[1]]
        rows, exact = whiten(factor, features), exactly(features.tolist())
        errors = abs(exactly(rows.tolist()) - solved_in_sixty_digits(factor, exact)) ** 2
        space = row_space(features, np.zeros(shape[1]))
        allowed = whitening_error(space, factor, features, rows)
        ratios.append(np.sqrt(errors.sum(1).astype(float)) / allowed)
        half = solved_in_sixty_digits(factor, exact.T @ exact)
        hessian = solved_in_sixty_digits(factor, half.T) - np.eye(shape[1], dtype=int)
        assert np.linalg.norm(hessian.astype(float), 2) <= factor_error(factor)
    assert np.max(ratios) <= 1
    assert np.max(ratios) >= 1 / 300
