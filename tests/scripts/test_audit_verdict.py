"""The verdict of an audit, from gradients and from stored projected features."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from support import digits_features
from typer.testing import CliRunner

from trak_theory import projection_matrix, trak
from trak_theory.auditing.audit import audit
from trak_theory.auditing.checking.recomputed import scores_of
from trak_theory.cli.main import app
from trak_theory.projection.projected_features import ProjectedKernel

K, RIDGE = 90, 5.0


@pytest.fixture(scope="module")
def lin():
    return digits_features.network_gradients()


@pytest.fixture(scope="module")
def stored(lin):
    """Projected features, queries, and the scores that they give at μ = RIDGE."""
    matrix = projection_matrix(lin.features.shape[1], K, rng=np.random.default_rng(0))
    kernel = ProjectedKernel(lin.features @ matrix, lin.queries @ matrix, RIDGE)
    return kernel.features, kernel.queries, scores_of((kernel,), lin.residual)


def projected_audit(lin, stored, scores, **changes):
    settings = {"ridge": RIDGE, "recipe": 0.5, "projected": True, **changes}
    return audit(stored[0], stored[1], lin.residual, scores=scores, **settings)


def test_scores_of_the_stored_features_are_recognised(lin, stored):
    found = projected_audit(lin, stored, 7 * stored[2].astype(np.float32))
    assert found.recomputed.explanation is None
    assert found.scale == pytest.approx(7, rel=1e-5)
    np.testing.assert_allclose(found.mean, 7 * stored[2], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s, r: -s, "opposite sign"),
        (lambda s, r: s / r[:, None], "without the residuals"),
        (lambda s, r: np.roll(s, 1, axis=0), "not what the stored features give"),
        (lambda s, r: np.roll(s, 1, axis=1), "not what the stored features give"),
        (lambda s, r: np.argsort(np.argsort(s, 0), 0) * 1.0, "not what the stored features give"),
    ],
)
def test_corrupted_stored_scores_are_named(lin, stored, change, words):
    found = projected_audit(lin, stored, change(stored[2], lin.residual))
    assert not found.verdict.trust
    assert words in found.verdict.sentence


def as_released(lin, kept, k):
    """Projected rows and scores at μ = 0 as traker keeps them: rows, Gram matrix and inverse in one precision."""
    matrix = projection_matrix(lin.features.shape[1], k, rng=np.random.default_rng(0)) / 10
    rows, queries = ((each @ matrix).astype(kept) for each in (lin.features, lin.queries))
    single, asked = rows.astype(np.float32), queries.astype(np.float32)
    inverse = np.linalg.inv((single.T @ single).astype(kept).astype(np.float32))
    inverse = (inverse / np.abs(inverse).mean()).astype(kept).astype(np.float32)
    return rows, queries, -lin.residual[:, None] * (single @ inverse @ asked.T)


@pytest.mark.parametrize(("kept", "k"), [(np.float32, 90), (np.float32, 140), (np.float16, 90)])
def test_rounding_of_the_package_is_no_alarm(lin, kept, k):
    """k = 140 of rank 150: a float32 Gram matrix has lost three of seven digits."""
    rows, queries, scores = as_released(lin, kept, k)
    found = audit(rows, queries, lin.residual, scores=scores, recipe=0.5, projected=True).recomputed
    assert found.explanation is None
    assert found.difference < found.allowed / 3


def test_half_precision_is_named_where_it_decides_the_order(lin):
    rows, queries, scores = as_released(lin, np.float16, 120)
    found = audit(rows, queries, lin.residual, scores=scores, recipe=0.5, projected=True)
    assert found.recomputed.kendall < 0.8
    assert "dominated by rounding noise: the precision of the store changes" in found.verdict.sentence
    assert found.recomputed.sensitivity == pytest.approx(found.recomputed.difference, rel=0.2)


def test_another_ridge_is_found(lin, stored):
    found = projected_audit(lin, stored, stored[2], ridge=3 * RIDGE)
    assert "at projected ridge 5, not 15" in found.verdict.sentence


def test_the_ensemble_enters_sd_and_reliability(lin, stored):
    one, nine = (projected_audit(lin, stored, None, ensemble=count) for count in (1, 9))
    np.testing.assert_allclose(nine.sd, one.sd / 3)
    assert nine.projection_loss["pearson"] > one.projection_loss["pearson"] + 0.05


def test_k_of_projected_features_is_their_width(lin, stored):
    with pytest.raises(ValueError, match="k = 40, but the projected features have 90 dimensions"):
        projected_audit(lin, stored, None, k=40)


def test_a_query_without_a_gradient_is_left_out_by_name(lin):
    queries = lin.queries.copy()
    queries[1] = 0
    found = audit(lin.features, queries, lin.residual, k=K, ridge=RIDGE, recipe=0.5)
    assert any("Query 1 has a zero gradient" in remark for remark in found.remarks)
    assert found.advice.predicted is not None
    assert not found.sd[:, 1].any()
    assert found.sd.shape == (len(lin.features), len(queries))


def test_zero_scores_and_a_single_query(lin):
    zero = audit(lin.features, lin.queries, lin.residual, k=K, scores=np.zeros((len(lin.features), len(lin.queries))))
    assert "all of them are 0" in zero.verdict.sentence
    single = audit(lin.features, lin.queries[:1], lin.residual, k=K, ridge=RIDGE, recipe=0.5)
    assert single.advice.predicted is not None


def test_a_ridge_at_rounding_level_is_refused(lin):
    features = lin.features.astype(np.float32)
    found = audit(features, lin.queries, lin.residual, k=min(features.shape), ridge=1e-9, recipe=0.5)
    assert "rounding" in found.verdict.sentence
    assert not found.verdict.trust


def test_error_bars_are_in_the_unit_of_the_scores(lin, tmp_path):
    scores = 1e4 * trak(lin, k=K, ridge=RIDGE, rng=np.random.default_rng(1))
    path = tmp_path / "f.npz"
    np.savez(path, features=lin.features, queries=lin.queries, residual=lin.residual, scores=scores)
    result = CliRunner().invoke(app, ["audit", str(path), "--out", str(tmp_path / "r"), "--k", "90", "--ridge", "5"])
    table = pq.read_table(tmp_path / "r" / "error_bars.parquet").to_pydict()
    given, expected, sd = (np.array(table[name]) for name in ("score", "expected", "sd"))
    np.testing.assert_allclose(given, scores.ravel())
    assert np.mean(np.abs(given - expected) < 1.96 * sd) == pytest.approx(0.95, abs=0.03)
    record = json.loads((tmp_path / "r" / "audit.json").read_text())
    assert result.exit_code == (0 if record["verdict"]["trust"] else 3)
    assert record["made"]["input"] == str(path)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"features": 1e150}, [], "entries reach"),
        ({}, ["--ridge", "1e300"], "beyond 10¹² times the trace"),
        ({}, ["--steps", "10"], "--steps needs --learning-rate"),
        ({}, ["--out", "/proc/nowhere/report"], "/proc/nowhere"),
    ],
)
def test_one_line_and_exit_status_two(lin, tmp_path, changes, options, message):
    path = tmp_path / "f.npz"
    arrays = {"features": lin.features, "queries": lin.queries, "residual": lin.residual}
    np.savez(path, **{name: array * changes.get(name, 1.0) for name, array in arrays.items()})
    result = CliRunner().invoke(app, ["audit", str(path), "--out", str(tmp_path / "r"), "--k", "90", *options])
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib", "pyarrow"])
def test_a_missing_package_is_named_with_its_extra(lin, tmp_path, monkeypatch, missing):
    from trak_theory import errors

    found = errors.find_spec
    monkeypatch.setattr(errors, "find_spec", lambda name: None if name == missing else found(name))
    result = CliRunner().invoke(app, ["audit", str(tmp_path / "f.npz"), "--out", str(tmp_path / "r")])
    assert result.exit_code == 2
    assert f"{missing} is not installed: pip install 'trak-theory[audit]'" in result.output


def test_jobs_change_no_number_and_need_joblib(lin, stored, tmp_path, monkeypatch):
    """Blocks of 40 rows, so that there is something to share."""
    from trak_theory import errors
    from trak_theory.numerics import gram

    monkeypatch.setattr(gram, "BLOCK_ENTRIES", 40 * K)
    path = tmp_path / "f.npz"
    np.savez(path, features=stored[0], queries=stored[1], residual=lin.residual, scores=stored[2])
    settings = ["--projected", "--ridge", str(RIDGE), "--training-ridge", "0.5"]

    def told(jobs):
        out = tmp_path / str(jobs)
        done = CliRunner().invoke(app, ["audit", str(path), "--out", str(out), *settings, "--jobs", str(jobs)])
        assert done.exit_code in (0, 3), done.output
        content = json.loads((out / "audit.json").read_text())
        return {name: value for name, value in content.items() if name != "made"}

    assert told(1) == told(3)
    monkeypatch.setattr(errors, "find_spec", lambda name: None if name == "joblib" else name)
    done = CliRunner().invoke(app, ["audit", str(path), "--out", str(tmp_path / "r"), *settings, "--jobs", "2"])
    assert done.exit_code == 2
    assert done.output == "error: joblib is not installed: pip install 'trak-theory[studies]'\n"
