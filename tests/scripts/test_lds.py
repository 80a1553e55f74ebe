"""trak-theory lds reads arrays from disk and prints what the library computes."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from trak_theory.cli.main import app
from trak_theory.retraining import compare, lds


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((20, 6))
    subsets = np.argsort(rng.random((60, 20)), axis=1)[:, :10]
    clean = scores[subsets].sum(1)
    outputs, replicates = clean + rng.standard_normal(clean.shape), clean + rng.standard_normal((2, *clean.shape))
    other = scores + rng.standard_normal(scores.shape)
    return {"scores": scores, "subsets": subsets, "outputs": outputs, "replicates": replicates, "other": other}


def invoke(*arguments):
    return CliRunner().invoke(app, ["lds", *map(str, arguments)])


def test_an_archive_with_everything(arrays, tmp_path):
    np.savez(tmp_path / "run.npz", **arrays)
    done = invoke(tmp_path / "run.npz")
    assert done.exit_code == 0, done.output
    other = arrays.pop("other")
    found = lds(**arrays)
    low, high = found.interval()
    assert f"LDS {found.mean:37.3f} ± {found.se:.3f}   95% [{low:.3f}, {high:.3f}]" in done.output
    for name in ("ceiling by training noise", "LDS / that ceiling", "ceiling of sums over points"):
        assert name in done.output
    gap = compare(arrays["scores"], other, arrays["subsets"], arrays["outputs"])
    assert f"LDS less that of the other scores  {gap.mean:6.3f} ± {gap.se:.3f}" in done.output
    assert "half that error takes 240 subsets" in done.output


def test_single_files_as_json_with_masks_and_padding(arrays, tmp_path):
    arrays["outputs"][:, 2] = 1.0
    mask = np.zeros((60, 20), bool)
    np.put_along_axis(mask, arrays["subsets"], True, axis=1)
    padded = np.hstack([arrays["subsets"], np.full((60, 3), -1)])
    files = [tmp_path / f"{name}.npy" for name in ("scores", "subsets", "outputs")]
    expected = lds(arrays["scores"], arrays["subsets"], arrays["outputs"])
    for subsets in (mask, padded):
        for file, array in zip(files, (arrays["scores"], subsets, arrays["outputs"]), strict=True):
            np.save(file, array)
        done = CliRunner().invoke(app, ["lds", *map(str, files), "--json", "--level", "0.8"])
        found = json.loads(done.stdout)
        assert found["LDS"]["value"] == pytest.approx(expected.mean)
        assert found["LDS"]["interval"] == pytest.approx(expected.interval(0.8))
        assert found["per_query"][2] is None
        assert found["undefined"] == {"2": "the outputs are the same for all subsets"}
        assert "warning: 1 of 6 queries" in done.stderr


def test_bad_input_is_one_line_and_status_2(arrays, tmp_path):
    np.savez(tmp_path / "short.npz", scores=arrays["scores"], subsets=arrays["subsets"])
    np.save(tmp_path / "scores.npy", arrays["scores"])
    np.save(tmp_path / "results.npy", arrays["scores"])
    np.savez(tmp_path / "flat.npz", **{**arrays, "subsets": arrays["subsets"][0]})
    cases = [
        ([tmp_path / "short.npz"], "lacks ['outputs']"),
        ([tmp_path / "scores.npy"], "no .npy file of ['outputs', 'subsets']"),
        ([tmp_path / "results.npy"], "results.npy'] are not known"),
        ([tmp_path / "absent.npz"], "no such file"),
        ([tmp_path / "flat.npz"], "subsets must have 2 axes, got shape (10,)"),
        ([tmp_path / "run.npz", "--level", "95"], "level must lie in (0, 1), got 95"),
    ]
    np.savez(tmp_path / "run.npz", **arrays)
    for arguments, message in cases:
        done = invoke(*arguments)
        assert done.exit_code == 2
        assert message in done.stderr.replace("\n", "")
        assert done.stderr.startswith("error: ")
