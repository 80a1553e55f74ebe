"""trak-theory audit: its report, its numbers and its advice."""

import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure
from support import digits_features
from typer.testing import CliRunner

from trak_theory import projection_matrix, trak
from trak_theory.auditing.audit import audit
from trak_theory.auditing.measures import top_overlap
from trak_theory.auditing.reporting.pictures import INK, MARK, _name_lines
from trak_theory.cli.main import app
from trak_theory.projection.error_bars import projection_law
from trak_theory.projection.projected_features import ProjectedKernel
from trak_theory.retraining.ridge_rule import TrainingRecipe, ridge_rule

RECIPE = TrainingRecipe(1e-3, 0.2, steps=100, momentum=0.9)
OPTIONS = ["--weight-decay", "1e-3", "--learning-rate", "0.2", "--steps", "100", "--momentum", "0.9"]


@pytest.fixture(scope="module")
def lin():
    return digits_features.small_network().margin_linearization()


@pytest.fixture(scope="module")
def file(lin, tmp_path_factory):
    path = tmp_path_factory.mktemp("features") / "features.npz"
    np.savez(path, features=lin.features.astype(np.float32), queries=lin.queries, residual=lin.residual)
    return path


def command(*arguments):
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


def test_report_is_whole_and_needs_nothing_else(file, lin, tmp_path):
    out = tmp_path / "report"
    result = command(file, "--out", out, "--k", 90, "--ridge", 0.5, *OPTIONS, "--fraction", 0.5)
    assert result.exit_code in (0, 3), result.output
    assert sorted(path.name for path in out.iterdir()) == ["audit.json", "error_bars.parquet", "report.html"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report"]
    page = (out / "report.html").read_text()
    assert "http" not in page
    assert page.count("<svg") == 3
    for heading in ("Projection loss", "Ridge loss", "Budget", "Recommendation", "If the training ridge were other"):
        assert heading in page
    record = json.loads((out / "audit.json").read_text())
    law = projection_law(lin, k=90, ridge=0.5)
    assert record["implicit_ridge"] == pytest.approx(law.implicit_ridge, rel=1e-5)
    table = pq.read_table(out / "error_bars.parquet").to_pydict()
    n, q = law.mean.shape
    assert len(table["score"]) == n * q
    np.testing.assert_allclose(np.reshape(table["sd"], (n, q)), law.sd, rtol=1e-3)
    np.testing.assert_allclose(np.reshape(table["score"], (n, q)), law.mean, atol=1e-4 * np.abs(law.mean).max())


def test_a_singular_setting_is_named_with_its_cure(file, lin, tmp_path):
    result = command(file, "--out", tmp_path / "r", "--package", "traker", "--k", 400, *OPTIONS)
    assert result.exit_code == 3, result.output
    assert "k = 400, rank 150, projected ridge μ = 0" in result.output
    assert "rounding noise" in result.output
    value = json.loads((tmp_path / "r" / "audit.json").read_text())["advice"]["value"]
    assert f"set traker's lambda_reg to {value:.4g}" in result.output
    assert not (tmp_path / "r" / "error_bars.parquet").exists()
    rule = ridge_rule(lin, RECIPE, k=400)
    by_rule, advised = (
        audit(lin.features, lin.queries, lin.residual, k=400, ridge=each, package="traker", recipe=RECIPE)
        for each in (rule.projected / (lin.features.shape[1] / 400), value)
    )
    assert by_rule.implicit_ridge == pytest.approx(rule.unit_curvature, rel=1e-8)
    assert advised.advice.present > by_rule.advice.present - 0.01


def test_units_of_packages(lin):
    p = lin.features.shape[1]
    for package, value, ridge in (("none", 2.0, 2.0), ("traker", 2.0, 2.0 * p / 90), ("dattri", 0.01, 0.01 * p)):
        found = audit(lin.features, lin.queries, lin.residual, k=90, ridge=value, package=package, recipe=RECIPE)
        assert found.setting["ridge"] == pytest.approx(ridge)


def test_given_scores_are_checked_at_an_unknown_scale(lin):
    k, ridge = 90, 5.0
    scores = 37.0 * trak(lin, k=k, ridge=ridge, rng=np.random.default_rng(0))
    settings = {"k": k, "ridge": ridge, "recipe": RECIPE, "scores": scores}
    found = audit(lin.features, lin.queries, lin.residual, **settings)
    check = found.scores_check
    assert check["scale"] == pytest.approx(37.0, rel=0.1)
    assert check["kendall"] == pytest.approx(check["predicted_kendall"], abs=0.03)
    assert check["pearson"] == pytest.approx(found.projection_loss["pearson"], abs=0.05)
    # Scores of one projection share its noise: coverage and spread are judged by their own standard errors.
    error = {row.name: row.sd for row in found.check.statistics}
    assert abs(check["coverage"] - 0.95) < 4 * error["coverage of 95 % intervals"]
    assert abs(np.log(check["spread_of_z"])) < 4 * error["spread of z"]
    assert not found.check.alarm
    assert not any("agree with their own kernel" in warning for warning in found.warnings)


def test_control_wrong_unit_wrong_sign_and_noise_are_noticed(lin):
    k, ridge = 90, 5.0
    scores = trak(lin, k=k, ridge=ridge, rng=np.random.default_rng(0))
    wrong = audit(lin.features, lin.queries, lin.residual, k=k, ridge=ridge, package="dattri", scores=scores)
    assert abs(wrong.scores_check["spread_of_z"] - 1) > 0.5
    assert any("unit is not as stated" in warning for warning in wrong.warnings)
    flipped = audit(lin.features, lin.queries, lin.residual, k=k, ridge=ridge, scores=-scores)
    assert any("negative scale" in warning for warning in flipped.warnings)


def test_budget_tells_ridge_and_projection_apart(lin):
    """At the ridge of the rule the ridge step costs nothing; far below it, it does."""
    at_rule = ridge_rule(lin, RECIPE, k=400).projected
    good = audit(lin.features, lin.queries, lin.residual, k=400, ridge=at_rule, recipe=RECIPE)
    poor = audit(lin.features, lin.queries, lin.residual, k=120, ridge=0.0, recipe=RECIPE)
    lost = [{row["rung"]: row["lost"] for row in found.budget}["ridge of the projection"] for found in (good, poor)]
    assert abs(lost[0]) < 1e-6
    assert lost[1] > 0.1
    assert poor.recommendation["best_kendall"] > poor.recommendation["present_kendall"] + 0.1
    total = poor.budget[-1]["kendall"]
    assert sum(row["lost"] for row in poor.budget) == pytest.approx(1 - total)


def test_top_overlap_against_fresh_projections(lin):
    k, top = 90, 15
    law = projection_law(lin, k=k, ridge=5.0)
    children = np.random.default_rng(1).spawn(12)
    draws = [np.argsort(-trak(lin, k=k, ridge=5.0, rng=child), axis=0)[:top] for child in children]
    shares = [
        np.mean([np.intersect1d(a[:, j], b[:, j]).size / top for j in range(a.shape[1])])
        for a, b in zip(draws[::2], draws[1::2], strict=True)
    ]
    error = np.std(shares, ddof=1) / np.sqrt(len(shares))
    assert abs(top_overlap(law.mean, law.sd, top) - np.mean(shares)) < 4 * error + 0.02


def test_projected_features_alone_give_ridge_and_error_bars(lin):
    """One draw's projected features against the law of the unprojected ones: relative noise O(1/√(k − df₂))."""
    k, ridge = 120, 5.0
    matrix = projection_matrix(lin.features.shape[1], k, rng=np.random.default_rng(2))
    kernel = ProjectedKernel(lin.features @ matrix, lin.queries @ matrix, ridge)
    law = projection_law(lin, k=k, ridge=ridge)
    assert kernel.implicit_ridge == pytest.approx(law.implicit_ridge, rel=0.05)
    assert kernel.effective_dimension == pytest.approx(law.effective_dimension, rel=0.05)
    found = audit(
        lin.features @ matrix,
        lin.queries @ matrix,
        lin.residual,
        ridge=ridge,
        projected=True,
        recipe=RECIPE,
        fraction=0.5,
    )
    assert np.median(found.sd / law.sd) == pytest.approx(1.0, abs=0.1)
    rule = ridge_rule(lin, RECIPE, fraction=0.5, k=k)
    assert found.recommendation["curvature_weighted_ridge"] == pytest.approx(rule.curvature_weighted, rel=0.05)
    # Pooled over queries, as the reliability is: a few heavy queries decide it.
    mean = law.mean - law.mean.mean(0)
    draws = [trak(lin, k=k, ridge=ridge, rng=child) for child in np.random.default_rng(5).spawn(6)]
    pooled = [np.sum(mean * d) / np.sqrt(np.sum(mean**2) * np.sum((d - d.mean(0)) ** 2)) for d in draws]
    assert found.projection_loss["pearson"] == pytest.approx(np.mean(pooled), abs=0.05)


def test_unknown_training_is_guessed_and_said(lin):
    found = audit(lin.features, lin.queries, lin.residual, k=90)
    assert any("training ridge unknown" in warning for warning in found.warnings)
    assert len(found.sensitivity) == 5
    assert all(row["kendall"] is not None for row in found.sensitivity)


def test_the_command_needs_no_torch(file, tmp_path):
    code = (
        "import sys; from trak_theory.cli.main import app; app(sys.argv[1:], standalone_mode=False); "
        "sys.exit('torch' in sys.modules)"
    )
    arguments = ["audit", str(file), "--out", str(tmp_path / "r"), "--k", "90"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r" / "report.html").exists()


def test_lines_whose_peaks_are_as_high_share_one_name():
    axis = Figure().add_subplot()
    axis.set_ylim(0, 1)
    _name_lines(axis, [(0.1, 1.0, 10), (0.5, 1.0, 20), (0.52, 2.0, 40)], own=20)
    assert [text.get_text() for text in axis.texts] == ["k = 10", "k = 20, 40"]
    assert [text.get_color() for text in axis.texts] == [INK, MARK]
