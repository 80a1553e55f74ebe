"""trak-theory audit --outputs: the LDS of the scores beside the verdict."""

import json

import numpy as np
import pytest
from support import digits_features
from typer.testing import CliRunner

from trak_theory import trak
from trak_theory.auditing.audit import audit
from trak_theory.auditing.retrained import Retrained, against_retraining
from trak_theory.cli.main import app
from trak_theory.retraining import lds

K, RIDGE, B = 140, 9000.0, 60


@pytest.fixture(scope="module")
def lin():
    return digits_features.network_gradients()


@pytest.fixture(scope="module")
def scores(lin):
    return trak(lin, k=K, ridge=RIDGE, rng=np.random.default_rng(0))


@pytest.fixture(scope="module")
def trained(lin, scores):
    """Outputs that sum these scores over each subset, with the noise of three trainings."""
    rng = np.random.default_rng(1)
    subsets = np.stack([rng.choice(len(scores), len(scores) // 2, replace=False) for _ in range(B)])
    sums = scores[subsets].sum(1)
    noise = sums.std(0) * rng.standard_normal((3, *sums.shape))
    return {"subsets": subsets, "outputs": sums + noise[0], "replicates": sums + noise[1:]}


def audited(lin, scores):
    known = {"curvature": lin.curvature, "recipe": 200.0, "k": K, "ridge": RIDGE}
    return audit(lin.features, lin.queries, lin.residual, scores=scores, **known)


def command(tmp_path, lin, scores, trained, *options):
    path, outputs = tmp_path / "features.npz", tmp_path / "subsets.npz"
    arrays = {"features": lin.features, "queries": lin.queries, "residual": lin.residual, "curvature": lin.curvature}
    np.savez(path, **arrays, **({} if scores is None else {"scores": scores}))
    np.savez(outputs, **trained)
    words = ["audit", str(path), "--out", str(tmp_path / "r"), "--k", str(K), "--outputs", str(outputs), *options]
    return CliRunner().invoke(app, words)


def test_lds_is_in_verdict_terminal_json_and_report(tmp_path, lin, scores, trained):
    result = command(tmp_path, lin, scores, trained, "--ridge", str(RIDGE))
    assert result.exit_code in (0, 3), result.output
    rows, replicates = list(trained["subsets"]), trained["replicates"]
    expected = lds(scores, rows, trained["outputs"], replicates=replicates)
    record = json.loads((tmp_path / "r" / "audit.json").read_text())
    assert record["retrained"]["LDS"] == pytest.approx(expected.mean.value)
    assert record["retrained"]["s.e."] == pytest.approx(expected.se)
    assert record["retrained"]["noise_ceiling"] == pytest.approx(expected.noise_ceiling.value)
    words = f"Against {B} retrained models: LDS {expected.mean:.2f} ± ".replace("0.", ".")
    for text in (result.output, record["verdict"]["sentence"], (tmp_path / "r" / "report.html").read_text()):
        assert words in text
        assert "training noise allows" in text
    assert "compares them with retrained models too" in record["reference"]
    assert "Against retraining" in (tmp_path / "r" / "report.html").read_text()


def test_without_outputs_one_sentence_says_what_the_reference_is(lin, scores):
    found = audited(lin, scores)
    assert found.retrained is None
    assert found.reference.endswith("regularised as your training was. Nothing was retrained.")


def test_without_scores_those_that_the_features_imply_are_taken(lin, trained):
    found = audited(lin, None)
    measured = against_retraining(found, Retrained(list(trained["subsets"]), trained["outputs"]))
    assert measured.retrained["LDS"] == pytest.approx(
        lds(found.mean, list(trained["subsets"]), trained["outputs"]).mean
    )


def test_an_lds_near_zero_withdraws_trust(lin, scores, trained):
    found = audited(lin, scores)
    assert found.verdict.trust, found.verdict.sentence
    good = against_retraining(found, Retrained(list(trained["subsets"]), trained["outputs"]))
    assert good.verdict.trust
    rng = np.random.default_rng(2)
    subsets = [rng.choice(len(scores), 75, replace=False) for _ in range(300)]
    noise = against_retraining(found, Retrained(subsets, rng.standard_normal((300, scores.shape[1]))))
    assert not noise.verdict.trust
    assert noise.verdict.sentence.startswith("Do not trust the order: retraining does not show it. Against 300")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {**t, "outputs": t["outputs"][:-1]}, "outputs have shape (59, "),
        (lambda t: {**t, "outputs": t["outputs"][:, :-1]}, "outputs have shape (60, "),
        (lambda t: {**t, "subsets": t["subsets"] + 1000}, "subset"),
        (lambda t: {**t, "subsets": t["subsets"][0]}, "subsets must have 2 axes, got shape (75,)"),
        (lambda t: {**t, "replicates": t["replicates"][0]}, "replicates"),
        (lambda t: {"outputs": t["outputs"]}, "lacks ['subsets']"),
        (lambda t: {**t, "targets": t["outputs"]}, "unknown arrays ['targets']"),
        (lambda t: {**t, "outputs": t["outputs"] * np.nan}, "outputs"),
        (lambda t: {**t, "outputs": 0 * t["outputs"]}, "no LDS"),
        (lambda t: {name: rows[..., :4, :] for name, rows in t.items()}, "4 subsets"),
    ],
)
def test_bad_outputs_are_named_in_one_line(tmp_path, lin, trained, change, message):
    result = command(tmp_path, lin, None, change(trained), "--ridge", str(RIDGE))
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert result.output.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_a_mask_and_padded_rows_are_the_same_subsets(tmp_path, lin, scores, trained):
    mask = np.zeros((B, len(scores)), bool)
    np.put_along_axis(mask, trained["subsets"], True, 1)
    padded = np.pad(trained["subsets"], ((0, 0), (0, 3)), constant_values=-1)
    numbers = []
    for subsets in (mask, padded):
        command(tmp_path, lin, None, {**trained, "subsets": subsets}, "--ridge", str(RIDGE))
        numbers.append(json.loads((tmp_path / "r" / "audit.json").read_text())["retrained"]["LDS"])
    assert numbers[0] == numbers[1]
