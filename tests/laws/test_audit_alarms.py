"""Alarms of the audit: rare on healthy scores, certain on corrupted ones, blind to a positive factor."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from typer.testing import CliRunner

from simulations.benchmarks import audit_alarms
from simulations.benchmarks.__main__ import app
from simulations.benchmarks.audit_alarms import CORRUPTIONS, FAMILIES, UNSEEN, Cell, Problem, Q
from simulations.benchmarks.audit_rounding import HALF, INPUTS, MATTERS, SMALL_N, half_trial, ridge_trial
from trak_theory.projection.matrices import projection_matrix
from trak_theory.projection.projected_features import ProjectedKernel


@cache
def cell(regime="μ > 0"):
    return Cell.of(Problem.drawn(FAMILIES[1], 150, 12, np.random.default_rng(0)), regime, np.random.default_rng(1))


def test_healthy_scores_rarely_alarm_whatever_their_factor():
    """1 in 150 is the rate of the design; 4 or more of 60 has probability .0007."""
    children = np.random.default_rng(2).spawn(60)
    checks = [
        cell().calibration.check(factor * cell().scores(c))
        for c, factor in zip(children, [1, 1e3, 1e-4] * 20, strict=True)
    ]
    assert sum(check.alarm for check in checks) < 4


def test_a_positive_factor_changes_nothing():
    scores = cell().scores(np.random.default_rng(3))
    first, second = (cell().calibration.check(factor * scores) for factor in (1.0, 371.0))
    for a, b in zip(first.statistics, second.statistics, strict=True):
        assert a.value == pytest.approx(b.value, rel=1e-6, abs=1e-8), a.name


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if not name.startswith("ridge")])
def test_corrupted_scores_alarm(name):
    assert cell().alarms(CORRUPTIONS[name](cell(), np.random.default_rng(4)))


def test_scores_that_half_precision_rounds_to_zero_are_no_alarm():
    """Of five points that the model is sure of, |r| ~ 1e-9; one logarithm of 0 would outweigh all other points."""
    problem = Problem.drawn(FAMILIES[1], 60, 3, np.random.default_rng(7))
    lin = problem.lin
    sure = replace(lin, residual=lin.residual * np.where(np.arange(len(lin.residual)) < 5, 1e-9, 1.0))
    some = Cell.at(replace(problem, lin=sure), 0.5, True, np.random.default_rng(8))
    scores = some.scores(np.random.default_rng(9))
    rounded = (scores / np.abs(scores).mean()).astype(np.float16).astype(float)
    assert not rounded[:5].any()
    assert not some.alarms(scores)
    assert not some.alarms(rounded)


def test_two_exchanged_queries_alarm_whatever_else_is_noise():
    """A model of 60 features at μ = 0, whose errors hide two of 20 queries from every other statistic."""
    found = []
    for child in np.random.default_rng([77]).spawn(2):
        making, calibrating, drawing = child.spawn(3)
        noisy = Cell.of(Problem.drawn(FAMILIES[3], 400, 20, making), "μ = 0", calibrating)
        found += [
            noisy.calibration.check(CORRUPTIONS["10 % of queries permuted"](noisy, drawn)) for drawn in drawing.spawn(8)
        ]
    assert all(check.alarm for check in found)
    assert "exchanged queries" in {check.worst.name for check in found}


@cache
def near_singular():
    """At the size that the power of the alarms is promised for."""
    problem = Problem.drawn(FAMILIES[1], 400, Q, np.random.default_rng(0))
    return Cell.at(problem, 0.97, False, np.random.default_rng(6))


@pytest.mark.parametrize("kept", HALF)
def test_half_precision_alarms_where_it_changes_the_order(kept):
    """Rounded rows are another model hardly different; a rounded inverse of a Gram matrix near singularity is none."""
    for seed in range(7, 10):
        found = half_trial(near_singular(), kept, seed)
        assert (found.kendall < MATTERS) == (kept != "rows")
        assert found.alarm or found.kendall >= MATTERS


@pytest.mark.parametrize("given", INPUTS)
@pytest.mark.parametrize(("level", "dominated"), [(0.1, True), (0.25, True), (30.0, False)])
def test_a_ridge_at_the_level_of_rounding_alarms_where_k_exceeds_the_rank(given, level, dominated):
    lin = Problem.drawn(FAMILIES[0], SMALL_N, Q, np.random.default_rng(9)).lin
    found = ridge_trial(lin, level, given, np.random.default_rng(8))
    assert found.alarm == (found.kendall < MATTERS) == dominated


def test_one_corruption_is_chosen_by_name(monkeypatch):
    monkeypatch.setattr(audit_alarms, "N", 80)
    monkeypatch.setattr(audit_alarms, "FAMILIES", FAMILIES[1:2])
    done = CliRunner().invoke(app, ["audit_alarms", "--problems", "1", "--repeats", "1", "--only", "k halved"])
    assert done.exit_code == 0, done.output
    rows = [line for line in done.output.splitlines() if line.startswith("| k halved")]
    assert len(rows) == 2
    assert "Healthy" not in done.output
    assert CliRunner().invoke(app, ["audit_alarms", "--only", "nonsense"]).exit_code == 2


def test_agreement_at_another_ridge_is_told_by_one_projection():
    """Pearson of T at one μ with the unprojected kernel at another γ, against fresh projections."""
    lin = cell().problem.lin
    p, k, first, second = lin.features.shape[1], 60, 1.0, 20.0
    predicted, measured = [], []
    for child in np.random.default_rng(5).spawn(12):
        matrix = projection_matrix(p, k, rng=child)
        kernel = ProjectedKernel(lin.features @ matrix, lin.queries @ matrix, first)
        predicted.append(kernel.pearson_with(kernel.at(second), kernel.scatter(lin.residual)))
        ridge = kernel.at(second).implicit_ridge
        target = -lin.residual[:, None] * (
            lin.features @ np.linalg.solve(lin.features.T @ lin.features + ridge * np.eye(p), lin.queries.T)
        )
        scores = -lin.residual[:, None] * kernel.kernel
        a, b = scores - scores.mean(0), target - target.mean(0)
        measured.append(np.sum(a * b) / np.sqrt(np.sum(a**2) * np.sum(b**2)))
    error = np.hypot(np.std(predicted), np.std(measured)) / np.sqrt(12)
    assert abs(np.mean(predicted) - np.mean(measured)) < 4 * error + 0.02


@pytest.mark.parametrize("name", ["k doubled", "features of another model"])
def test_a_statistic_with_heavy_tails_sets_no_bar_for_the_others(name):
    """Every row four times: with distances in units of 97.5 % quantiles none of six draws was noticed."""
    found = repeated_rows()
    assert all(found.alarms(CORRUPTIONS[name](found, child)) for child in np.random.default_rng(9).spawn(4))


@cache
def repeated_rows():
    making, calibrating = np.random.default_rng([5, 3]).spawn(2)
    return Cell.of(Problem.drawn(UNSEEN[3], 400, Q, making), "μ = 0", calibrating)


@pytest.mark.slow
@pytest.mark.parametrize("family", UNSEEN[:3], ids=lambda family: family.name)
@pytest.mark.parametrize("regime", ["μ = 0", "μ > 0"])
def test_the_promise_holds_on_families_that_had_no_part_in_the_design(family, regime):
    """n = 400 distinct points and q = 20 distinct queries."""
    making, calibrating, drawing = np.random.default_rng([5, UNSEEN.index(family)]).spawn(3)
    other = Cell.of(Problem.drawn(family, 400, Q, making), regime, calibrating)
    healthy = [other.alarms(other.scores(child)) for child in drawing.spawn(40)]
    assert sum(healthy) < 4  # 1 in 150: probability .0002
    names = [name for name in CORRUPTIONS if regime == "μ > 0" or not name.startswith("ridge")]
    found = [other.alarms(CORRUPTIONS[name](other, child)) for name in names for child in drawing.spawn(3)]
    assert np.mean(found) >= 0.95
