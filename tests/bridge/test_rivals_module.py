"""The benchmark against released packages on a torch module: its truth, and this project's scores of it."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="torch is an optional extra")

from support.networks.torch_problems import cnn, images, seeded  # noqa: E402

from simulations.benchmarks.__main__ import app  # noqa: E402
from simulations.benchmarks.rivals import cases, command, networks  # noqa: E402
from simulations.benchmarks.rivals.exchange import Answer, ask  # noqa: E402
from simulations.benchmarks.rivals.runners.ours import module as ours_module  # noqa: E402
from simulations.benchmarks.rivals.runners.shared.torch_network import margins, network  # noqa: E402
from simulations.workloads.torch_attribution import trained  # noqa: E402
from trak_theory import influence, trak  # noqa: E402
from trak_theory.attribution import trak_kernel  # noqa: E402
from trak_theory.retraining.restored import restored_block_influence, restored_influence  # noqa: E402
from trak_theory.retraining.ridge_rule import ridge_rule  # noqa: E402
from trak_theory.torch_bridge.features import MARGIN, linearize, softmax_block  # noqa: E402
from trak_theory.torch_bridge.settings.image import Size, mnist_cnn  # noqa: E402
from trak_theory.torch_bridge.sketch import NormalSketch  # noqa: E402
from trak_theory.trajectory import truth  # noqa: E402

KNOWN = {"ridge": 0.3, "fraction": 0.5}
ADAMW = "CNN, AdamW"


@pytest.fixture(scope="module")
def samples():
    return images((1, 8, 8)), images((1, 8, 8), seed=1, n=5)


@pytest.fixture(scope="module")
def arrays(samples):
    module = seeded(cnn)
    names = ("inputs", "labels", "query_inputs", "query_labels")
    data = {name: part.numpy() for name, part in zip(names, (*samples[0], *samples[1]), strict=True)}
    scales = np.random.default_rng(0).uniform(0.5, 2.0, sum(value.numel() for value in module.parameters()))
    return {"module": cases.packed(module), "scales": scales, **data}


@pytest.fixture
def small(monkeypatch):
    for name, value in {"N": 100, "SUBSETS": 6, "CNN_QUERIES": 4, "CNN_STEPS": 6}.items():
        monkeypatch.setattr(cases, name, value)


def test_a_module_survives_the_exchange(arrays, samples):
    x = samples[0][0]
    torch.testing.assert_close(network(arrays, torch.float64)(x), seeded(cnn)(x), rtol=0, atol=0)
    assert network(arrays)(x.float()).dtype == torch.float32
    answer = ask(Path(sys.executable), "ours.module", arrays, {**KNOWN, "method": "restored"})
    assert isinstance(answer, Answer), answer
    expected = ours_module.work(arrays, {**KNOWN, "method": "restored"})["scores"]
    np.testing.assert_allclose(answer.arrays["scores"], expected, rtol=1e-9)


def test_scores_of_a_module_are_those_of_its_linearisation_in_the_scaled_parameters(arrays, samples):
    scales, module = arrays["scales"], seeded(cnn)
    lin = linearize(module, MARGIN, *samples)
    scaled = type(lin)(lin.features * scales, lin.residual, lin.curvature, 0.0, lin.queries * scales)
    jacobian, probabilities, labels, _ = softmax_block(module, *samples)
    k = 250  # far above the degrees of freedom, so that the rule has a ridge to give
    rule = ridge_rule(scaled, KNOWN["ridge"], fraction=0.5, k=k).projected
    assert rule > 0
    expected = {
        "restored": restored_influence(scaled, KNOWN["ridge"], fraction=0.5),
        "block": restored_block_influence(
            jacobian * scales, probabilities, labels, lin.queries * scales, KNOWN["ridge"], fraction=0.5
        ),
        "trak at the rule": trak(scaled, k=k, ridge=rule, rng=np.random.default_rng(3)),
    }
    for method, scores in expected.items():
        found = ours_module.work(arrays, {**KNOWN, "method": method, "k": k, "seed": 3})["scores"]
        np.testing.assert_allclose(found, scores, rtol=1e-7, atol=1e-9 * np.abs(scores).max(), err_msg=method)


def test_streamed_trak_of_a_module_has_no_ridge_and_no_scales(arrays, samples):
    found = ours_module.work(arrays, {**KNOWN, "method": "trak", "k": 12, "seed": 3, "batch": 10})["scores"]
    projected = linearize(seeded(cnn), MARGIN, *samples, sketch=NormalSketch(12, rng=np.random.default_rng(3)))
    expected = influence(trak_kernel(projected))
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())  # single precision


@pytest.mark.parametrize("share", [cases.HALF, cases.HUNDREDTH])
def test_the_truth_is_the_run_with_the_subset_alone(small, tmp_path, share):
    """Against a plain torch loop over what is left of every batch."""
    case = cases.CASES[ADAMW](tmp_path, np.random.default_rng(5))
    building, training, _, _ = np.random.default_rng(5).spawn(4)
    setting = mnist_cnn(Size(n=100, batch=20, steps=6, held_out=4), rng=building)
    module = copy.deepcopy(setting.network)
    batches = trained(setting, "AdamW", 3e-3, queries=4, rng=training).run.batches
    rows, held_out = setting.objective.rows, setting.held_out.rows
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.01)
    for batch in batches:
        left = np.intersect1d(batch, case.truths[share].subsets[0])
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(rows.args[0][left]), rows.targets[left]).backward()
        optimizer.step()
    expected = margins(module(held_out.args[0]), held_out.targets).detach().numpy()
    np.testing.assert_allclose(case.truths[share].outputs[0], expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(network(case.arrays, torch.float64)(rows.args[0]), setting.network(rows.args[0]))


def test_retrained_subsets_are_kept(small, tmp_path, monkeypatch):
    first = cases.CASES[ADAMW](tmp_path, np.random.default_rng(5))
    assert len(list(tmp_path.rglob("*.npy"))) == 4 * 6  # two shares, two orders of the batches
    monkeypatch.setattr(truth, "_retrain", lambda *_: pytest.fail("a kept retraining was repeated"))
    again = cases.CASES[ADAMW](tmp_path, np.random.default_rng(5))
    for share, kept in first.truths.items():
        np.testing.assert_array_equal(again.truths[share].outputs, kept.outputs)


def test_rows_of_a_module(small, tmp_path, monkeypatch):
    restored = [method for method in networks.METHODS if method.options.get("method") == "restored"]
    monkeypatch.setattr(networks, "METHODS", restored)
    monkeypatch.setattr(networks, "CASES", {ADAMW: cases.CASES[ADAMW]})
    again, row = networks.measure({}, tmp_path, seed=0, repeats=1)
    assert again["method"] == "retraining"
    assert row["network"] == ADAMW
    for value, error in networks.LDS.values():
        assert -1 <= row[value] <= 1
        assert row[error] > 0
    assert row["CPU s"] > 0


def test_without_torch_the_part_network_says_what_to_install(monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    answer = CliRunner().invoke(app, ["rivals", "network", "--environments", "/nonexistent"])
    assert answer.exit_code == 2
    assert "trak-theory[torch]" in answer.output
