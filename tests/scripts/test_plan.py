"""Planning: what it recommends is the best that can be predicted, and its predictions are right."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support import digits_features
from typer.testing import CliRunner

from trak_theory import agreement, trak
from trak_theory.auditing.planning import plan_a_priori, plan_projection
from trak_theory.cli.main import app
from trak_theory.laws.rank_law import rank_law
from trak_theory.retraining.restored import restored_influence
from trak_theory.retraining.ridge_rule import TrainingRecipe

RECIPE = TrainingRecipe(1e-3, 0.2, steps=100, momentum=0.9)


@pytest.fixture(scope="module")
def lin():
    whole = digits_features.network_gradients()
    return replace(whole, queries=whole.queries[:8])


@pytest.fixture(scope="module")
def plan(lin):
    return plan_projection(lin, recipe=RECIPE, budget=180, fraction=0.5, dimensions=[30, 60, 120, 180])


def simulated(lin, choice, draws=5):
    reference = restored_influence(lin, RECIPE, fraction=0.5)
    children = np.random.default_rng(0).spawn(draws)
    setting = {"k": choice.k, "ensemble": choice.ensemble, "ridge": choice.ridge}
    values = [float(agreement(reference, trak(lin, **setting, rng=child)).kendall) for child in children]
    return np.mean(values), np.std(values, ddof=1) / np.sqrt(draws)


def test_predictions_of_the_curve_come_true(lin, plan):
    for choice in plan.curve:
        mean, error = simulated(lin, choice)
        assert abs(choice.kendall - mean) < 4 * error + 0.015, choice


def test_the_best_is_better_than_neighbours_in_the_ridge(lin, plan):
    best, _ = simulated(lin, plan.best)
    for factor in (0.02, 30.0):
        other = type(plan.best)(**{**vars(plan.best), "ridge": plan.best.ridge * factor})
        assert simulated(lin, other)[0] < best


def test_a_huge_ridge_does_not_win(lin, plan):
    """Agreement with the kernel of the same implicit ridge rises without limit; with a fixed reference it does not."""
    assert all(choice.implicit_ridge < 0.9 * np.linalg.norm(lin.features, 2) ** 2 for choice in plan.curve)
    assert plan.best.kendall <= plan.limit + 1e-9


def test_budget_is_kept_and_used(plan):
    assert [(choice.k, choice.ensemble) for choice in plan.curve] == [(30, 6), (60, 3), (120, 1), (180, 1)]
    assert all(choice.cost <= 180 for choice in plan.curve)


def test_a_cost_of_ones_own(lin):
    plan = plan_projection(
        lin, recipe=RECIPE, budget=100.0, cost=lambda k, ensemble: ensemble * (40 + k / 3), dimensions=[30, 150]
    )
    assert [(choice.k, choice.ensemble) for choice in plan.curve] == [(30, 2), (150, 1)]


def test_a_priori_plan_is_the_best_of_the_rank_law():
    n, p, ridge = 300, 450, 5.0
    plan = plan_a_priori(n=n, p=p, ridge=ridge, budget=290, dimensions=[145, 290])
    for choice in plan.curve:
        setting = {"n": n, "p": p, "ridge": ridge, "signal": 1.0, "noise": 1.0, "loss": "squared"}
        setting |= {"k": choice.k, "ensemble": choice.ensemble}
        assert choice.kendall == pytest.approx(rank_law(**setting, projected_ridge=choice.ridge).kendall)
        for mu in (choice.ridge * 0.2 + 0.1, choice.ridge * 5 + 1):
            assert rank_law(**setting, projected_ridge=mu).kendall < choice.kendall + 1e-3
    assert plan.curve[1].kendall > rank_law(**setting, projected_ridge=0.0).kendall + 0.1  # k → n without a ridge


def test_command(lin, tmp_path):
    path = tmp_path / "f.npz"
    np.savez(path, features=lin.features, queries=lin.queries, residual=lin.residual, curvature=lin.curvature)
    options = ["--budget", "120", "--training-ridge", "0.5", "--fraction", "0.5", "--package", "traker"]
    result = CliRunner().invoke(app, ["plan", "--features", str(path), *options, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "lambda_reg" in result.output
    assert result.output.count("best") == 1
    record = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert record["best"]["k"] <= 120
    assert (tmp_path / "out" / "plan.png").stat().st_size > 10_000


def test_command_without_features():
    result = CliRunner().invoke(app, ["plan", "--budget", "64", "--n", "200", "--p", "100", "--ridge", "2"])
    assert result.exit_code == 0, result.output
    assert "Kendall" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget", "64"], "give --features, or --n, --p and --ridge"),
        (["--budget", "0", "--n", "20", "--p", "10", "--ridge", "2"], "budget must be positive"),
        (["--budget", "0.5", "--n", "20", "--p", "10", "--ridge", "2"], "does not pay for a single projection"),
        (["--budget", "9", "--features", "none.npz", "--training-ridge", "1"], "no such file"),
    ],
)
def test_wrong_options(options, message):
    result = CliRunner().invoke(app, ["plan", *options])
    assert result.exit_code == 2
    assert message in result.output
