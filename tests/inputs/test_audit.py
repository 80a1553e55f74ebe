"""Wrong files and settings of trak-theory audit: a clear message, exit status 2, and no report."""

import zipfile

import numpy as np
import pytest
from typer.testing import CliRunner

from trak_theory.auditing.audit import audit
from trak_theory.auditing.stores.archive import read_arrays
from trak_theory.cli.main import app


def arrays(n=30, p=50, q=4):
    rng = np.random.default_rng(0)
    return {
        "features": rng.standard_normal((n, p)),
        "queries": rng.standard_normal((q, p)),
        "residual": -rng.random(n),
    }


def run(path, out, *options):
    return CliRunner().invoke(app, ["audit", str(path), "--out", str(out), "--k", "20", *options])


def refused(path, tmp_path, *options):
    out = tmp_path / "report"
    result = run(path, out, *options)
    assert result.exit_code == 2, result.output
    assert not out.exists()
    assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith(".report")]
    assert "Traceback" not in result.output
    return result.output


def test_truncated(tmp_path):
    path = tmp_path / "f.npz"
    np.savez(path, **arrays())
    path.write_bytes(path.read_bytes()[:3000])
    assert "is not a readable .npz file" in refused(path, tmp_path)


def test_damaged_in_the_middle_of_a_compressed_file(tmp_path):
    path = tmp_path / "f.npz"
    np.savez_compressed(path, **arrays())
    content = bytearray(path.read_bytes())
    content[2000:2100] = bytes(100)
    path.write_bytes(bytes(content))
    refused(path, tmp_path)


def test_another_format(tmp_path):
    path = tmp_path / "f.npz"
    path.write_text("features,residual\n1,2\n")
    assert "is not a readable .npz file" in refused(path, tmp_path)
    np.save(tmp_path / "g.npy", np.ones((3, 3)))
    assert "is no store of a known package" in refused(tmp_path / "g.npy", tmp_path)


def test_a_zip_of_something_else(tmp_path):
    path = tmp_path / "f.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name in arrays():
            archive.writestr(f"{name}.npy", b"not an array at all")
    assert "cannot be read" in refused(path, tmp_path)


def test_pickles_are_never_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    path = tmp_path / "f.npz"
    np.savez(path, **{**arrays(), "residual": np.array([Bomb()], dtype=object)})
    assert "pickled objects" in refused(path, tmp_path)


def test_missing_file_and_arrays(tmp_path):
    assert "no such file" in refused(tmp_path / "none.npz", tmp_path)
    path = tmp_path / "f.npz"
    np.savez(path, features=np.ones((3, 4)))
    assert "lacks ['queries', 'residual']" in refused(path, tmp_path)
    np.savez(path, **arrays(), residuals=np.ones(30))
    assert "unknown arrays ['residuals']" in refused(path, tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("features", np.full((30, 50), np.nan), "NaN or inf, first in row 0 of 30"),
        ("queries", np.ones((4, 49)), "queries (4, 49) do not belong to features (30, 50)"),
        ("residual", np.ones(29), "residual: shape (29,), expected (30,)"),
        ("residual", np.full(30, 3.0), "not of a logistic margin"),
        ("features", np.ones(30), "expected (n, p) and (q, p)"),
        ("features", np.array([["a"] * 50] * 30), "expected real numbers"),
        ("scores", np.ones((4, 30)), "scores: shape (4, 30), expected (n, q) = (30, 4)"),
        ("curvature", -np.ones(30), "curvature: must be ≥ 0"),
    ],
)
def test_wrong_arrays(name, value, message, tmp_path):
    path = tmp_path / "f.npz"
    np.savez(path, **{**arrays(), name: value})
    assert message in refused(path, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--k", "51"], "k = 51 exceeds p = 50"),
        (["--ensemble", "0"], "ensemble must be at least 1"),
        (["--ridge", "-1"], "must be finite and ≥ 0, got -1.0"),
        (["--package", "trak"], "unknown package 'trak'"),
        (["--fraction", "1.5"], "fraction must lie in (0, 1)"),
        (["--weight-decay", "0.1"], "a recipe needs the weight decay"),
        (["--training-ridge", "1", "--weight-decay", "0.1"], "a training ridge or a recipe, not both"),
        (["--training-ridge", "-1"], "the training ridge must be finite and > 0"),
        (["--top", "0"], "top must be at least 1"),
    ],
)
def test_wrong_options(options, message, tmp_path):
    path = tmp_path / "f.npz"
    np.savez(path, **arrays())
    assert message in refused(path, tmp_path, *options)


def test_a_failure_while_writing_leaves_an_earlier_report_alone(tmp_path, monkeypatch):
    path, out = tmp_path / "f.npz", tmp_path / "report"
    np.savez(path, **arrays())
    assert run(path, out).exit_code in (0, 3)
    before = {entry.name: entry.read_bytes() for entry in out.iterdir()}

    def full(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr("trak_theory.auditing.reporting.report._write_error_bars", full)
    assert run(path, out, "--ridge", "1").exit_code == 2
    assert {entry.name: entry.read_bytes() for entry in out.iterdir()} == before


def test_a_file_where_the_report_should_go(tmp_path):
    path = tmp_path / "f.npz"
    np.savez(path, **arrays())
    (tmp_path / "taken").write_text("mine")
    assert run(path, tmp_path / "taken").exit_code == 2
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_back_as_saved_and_mapped_when_stored(save, order, tmp_path):
    path = tmp_path / "f.npz"
    saved = {name: np.asarray(value, order=order) for name, value in arrays().items()}
    saved["features"] = saved["features"].astype(np.float32)
    save(path, **saved)
    read = read_arrays(path, required=tuple(saved))
    for name, value in saved.items():
        np.testing.assert_array_equal(read[name], value)
        assert read[name].dtype == value.dtype
    assert isinstance(read["features"], np.memmap) == (save is np.savez)


def test_mapped_features_give_the_same_audit(tmp_path):
    data = arrays()
    path = tmp_path / "f.npz"
    np.savez(path, **data)
    read = read_arrays(path, required=tuple(data))
    mapped, direct = audit(**read, k=20), audit(**data, k=20)
    assert mapped.implicit_ridge == pytest.approx(direct.implicit_ridge, rel=1e-12)
    np.testing.assert_allclose(mapped.sd, direct.sd, rtol=1e-9)


def test_all_zero_features_are_named():
    data = {**arrays(), "features": np.zeros((30, 50))}
    with pytest.raises(ValueError, match="all features are zero"):
        audit(**data, k=5)


@pytest.mark.parametrize(("name", "said"), [("residual", "residuals"), ("scores", "scores")])
@pytest.mark.parametrize("size", [1e-310, 1e-99, 1e-45])
def test_numbers_whose_powers_are_none_are_named(name, said, size):
    data = arrays()
    known = {"curvature": np.full(30, 0.1), "scores": np.ones((30, 4)), "residual": data["residual"]}
    known[name] = known[name] * size
    with pytest.raises(ValueError, match=f"^{said} reach .*: their powers leave the range"):
        audit(data["features"], data["queries"], projected=True, ridge=1.0, **known)


def test_scores_of_stored_features_that_give_none_are_not_trusted():
    """All residuals but one are lost, and so is that one's gradient."""
    data = arrays()
    data["features"][0] = 0.0
    residual = np.where(np.arange(30) == 0, -0.5, 0.0)
    known = {"scores": np.ones((30, 4)), "projected": True, "ridge": 1.0, "curvature": np.full(30, 0.1)}
    found = audit(data["features"], data["queries"], residual, **known)
    assert not found.verdict.trust
    assert "give scores of 0 for every pair" in found.verdict.sentence
    with pytest.raises(ValueError, match="give scores of 0 for every pair"):
        audit(data["features"], data["queries"], residual, k=20, recipe=1.0, curvature=known["curvature"])


def test_a_ridge_in_units_of_an_unknown_p_is_refused(tmp_path):
    file = tmp_path / "features.npz"
    np.savez(file, **arrays(p=20))
    options = ("--projected", "--package", "traker", "--ridge", "0.5")
    assert "give parameters (--parameters)" in refused(file, tmp_path, *options)


def test_a_p_that_is_not_known_is_not_invented():
    rng = np.random.default_rng(0)
    given = rng.standard_normal((60, 8)), rng.standard_normal((3, 8)), -rng.random(60)
    assert audit(*given, projected=True, ridge=0.5).setting["p"] is None
    assert audit(*given, projected=True, ridge=0.5, parameters=100).setting["p"] == 100
