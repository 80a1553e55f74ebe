"""Alarms of the audit: rare on healthy scores, certain on corrupted ones, blind to a positive factor."""

from functools import cache

import numpy as np
import pytest

from simulations.benchmarks.audit_alarms import CORRUPTIONS, FAMILIES, Cell, Problem
from trak_theory.projection.matrices import projection_matrix
from trak_theory.projection.projected_features import ProjectedKernel


@cache
def cell(regime="μ > 0"):
    return Cell.of(Problem.drawn(FAMILIES[1], 150, 12, np.random.default_rng(0)), regime, np.random.default_rng(1))


def test_healthy_scores_rarely_alarm_whatever_their_factor():
    """1 in 300 is the rate of the design; 3 or more of 60 has probability .001."""
    children = np.random.default_rng(2).spawn(60)
    checks = [
        cell().calibration.check(factor * cell().scores(c))
        for c, factor in zip(children, [1, 1e3, 1e-4] * 20, strict=True)
    ]
    assert sum(check.alarm for check in checks) < 3


def test_a_positive_factor_changes_nothing():
    scores = cell().scores(np.random.default_rng(3))
    first, second = (cell().calibration.check(factor * scores) for factor in (1.0, 371.0))
    for a, b in zip(first.statistics, second.statistics, strict=True):
        assert a.value == pytest.approx(b.value, rel=1e-6, abs=1e-8), a.name


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if not name.startswith(("ridge", "half", "10 % of q"))])
def test_corrupted_scores_alarm(name):
    assert cell().alarms(CORRUPTIONS[name](cell(), np.random.default_rng(4)))


def test_agreement_at_another_ridge_is_told_by_one_projection():
    """Pearson of T at one μ with the unprojected kernel at another γ, against fresh projections."""
    lin = cell().problem.lin
    p, k, first, second = lin.features.shape[1], 60, 1.0, 20.0
    predicted, measured = [], []
    for child in np.random.default_rng(5).spawn(12):
        matrix = projection_matrix(p, k, rng=child)
        kernel = ProjectedKernel(lin.features @ matrix, lin.queries @ matrix, first)
        predicted.append(kernel.pearson_with(kernel.at(second), lin.residual))
        ridge = kernel.at(second).implicit_ridge
        target = -lin.residual[:, None] * (
            lin.features @ np.linalg.solve(lin.features.T @ lin.features + ridge * np.eye(p), lin.queries.T)
        )
        scores = -lin.residual[:, None] * kernel.kernel
        a, b = scores - scores.mean(0), target - target.mean(0)
        measured.append(np.sum(a * b) / np.sqrt(np.sum(a**2) * np.sum(b**2)))
    error = np.hypot(np.std(predicted), np.std(measured)) / np.sqrt(12)
    assert abs(np.mean(predicted) - np.mean(measured)) < 4 * error + 0.02
