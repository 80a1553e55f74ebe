"""The image studies of torch runs: a corner of each is computed, drawn, and shows what it claims."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from support.networks.trajectories import digits_run

from simulations.engine.study import EXTRAS, find_study
from simulations.studies.practice.ridge_rule import RECIPES, coordinates
from simulations.workloads.digits_mlp import digits_network
from simulations.workloads.torch_runs import ESTIMATORS, trajectory_rows
from trak_theory import Linearization, influence, restored_block_influence
from trak_theory.errors import RankDeficientError
from trak_theory.trajectory import AdamW, attribute, error_bound, retrain_without, verdict

WITHOUT_TORCH = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
hidden = lambda name, *rest: None if name.split(".")[0] in ("torch", "transformers", "peft") else find(name, *rest)
PathFinder.find_spec = hidden
"""


def python(code):
    return subprocess.run([sys.executable, "-c", WITHOUT_TORCH + code], capture_output=True, text=True, check=False)


def test_without_torch_the_package_works_and_a_study_says_what_to_install():
    answer = python(
        "import trak_theory, trak_theory.trajectory\n"
        "from simulations.__main__ import app\n"
        "app(['run', 'torch_mlp', '--out', '/nonexistent'])"
    )
    assert answer.returncode == 1
    assert (
        "torch_mlp: needs torch, transformers, peft, not installed here: pip install 'trak-theory[torch]'"
        in answer.stderr
    )
    assert python("from simulations.engine.study import all_studies\nassert len(all_studies()) > 20").returncode == 0


def test_importing_the_package_and_the_studies_does_not_import_torch():
    code = "import sys, trak_theory, trak_theory.trajectory\n"
    code += "import simulations.studies.networks.torch_mlp, simulations.studies.networks.torch_cnn\n"
    check = "assert not {'torch', 'transformers'} & set(sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code + check], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr


def test_the_rows_of_a_run_are_those_of_its_sweeps_one_by_one():
    run, query = digits_run(0, AdamW(1e-2), n=40, size=8, steps=12, hidden=(6,), held_out=20)
    removed = np.array([3, 0, 17, 30, 8])
    rows = trajectory_rows(run, query, removed)
    truth = retrain_without(run, removed[:, None])
    for row in rows[: len(ESTIMATORS)]:
        expected = truth.agreement(attribute(run, query, **ESTIMATORS[row["estimator"]]))
        assert {name: row[name] for name in expected.row()} == pytest.approx(expected.row(), rel=1e-12, nan_ok=True)
    exact = truth.influence(query)[:, 0]
    points = [row for row in rows if row["part"] == "sample"]
    np.testing.assert_array_equal([row["truth"] for row in points], exact)
    best = attribute(run, query, estimator="two-step")
    np.testing.assert_allclose([row["half_width"] for row in points], error_bound(best)[removed, 0], rtol=1e-12)
    last = rows[-1]
    assert last["coverage"] == np.mean([abs(r["truth"] - r["two_step"]) <= r["half_width"] for r in points])
    assert last["free_label"] == verdict(best).label
    assert last["null_effect"] < 1e-9


TRAJECTORY, ATTRIBUTION = {"side": "trajectory"}, {"side": "attribution"}
CORNERS = {
    "torch_mlp": [
        *(
            {**TRAJECTORY, "data": "digits", "length": 60, "removals": 60, "learning_rate": 1e-2, "replicate": seed}
            for seed in range(2)
        ),
        {**TRAJECTORY, "data": "mnist, n = 640", "length": 10, "removals": 20, "learning_rate": 1e-3, "replicate": 0},
        {**ATTRIBUTION, "data": "digits", "recipe": "AdamW", "subsets": 40, "replicate": 0},
    ],
    "torch_cnn": [
        *(
            {**TRAJECTORY, "size": "small", "removals": 12, "learning_rate": 1e-3, "replicate": seed}
            for seed in range(2)
        ),
        {**ATTRIBUTION, "images": 60, "length": 12, "subsets": 12, "removals": 4, "replicate": 0},
    ],
}


@pytest.fixture(scope="module", params=CORNERS)
def corner(request, tmp_path_factory):
    """A study on a grid of its own, and its stored results."""
    for package in EXTRAS["torch"]:
        pytest.importorskip(package, reason=f"{package} is an optional extra")
    from simulations.engine.runner import run

    study = replace(find_study(request.param), quick=CORNERS[request.param], full=CORNERS[request.param])
    out = tmp_path_factory.mktemp(request.param)
    (outcome,) = run([study], out=out)
    assert not outcome.failures, outcome.failures
    return study, out


@pytest.mark.slow
def test_the_estimators_are_ordered_and_the_predictions_hold(corner):
    from simulations.engine.store import Store
    from simulations.workloads.torch_attribution import RELEASED, RESTORED

    study, out = corner
    frame = Store(out).load(study)
    estimators = frame[frame["part"] == "estimator"].groupby("estimator")["spearman"].mean()
    assert estimators["two-step"] > max(0.95, estimators["first-order"] - 0.02)
    assert estimators["first-order"] > estimators["sgd"]
    assert estimators["two-step"] > estimators["two-step, no curvature"]
    runs = frame[frame["part"] == "run"]
    assert (runs["null_effect"] < 1e-9).all()
    points = frame[frame["part"] == "sample"]
    inside = (points["truth"] - points["two_step"]).abs() <= points["half_width"]
    assert inside.mean() > 0.75
    laws = frame[frame["part"] == "law"]
    assert np.abs(laws["measured"] - laws["predicted"]).max() < 0.04
    assert np.abs(laws["coverage"] - 0.95).max() < 0.02
    if study.name == "torch_mlp":
        scores = frame[frame["part"] == "lds"].set_index(["score", "exponent"])["lds"]
        assert scores[RESTORED, 0] > scores[RESTORED].max() - 0.03
        assert scores[RESTORED, 0] > scores[RELEASED, 0] + 0.2


def test_a_column_to_which_a_sketch_sends_no_gradient_is_left_out():
    """Without a ridge the kernel is then the pseudo-inverse's; with the column there is none."""
    from simulations.workloads.torch_attribution import without_empty_columns

    rng = np.random.default_rng(0)
    features, queries, curvature = rng.normal(size=(30, 5)), rng.normal(size=(3, 5)), rng.uniform(0.1, 1.0, 30)
    features[:, 2] = 0.0
    lin = Linearization(features, rng.normal(size=30), curvature, 0.0, queries)
    with pytest.raises(RankDeficientError, match="column 2 is zero"):
        influence(lin)
    hessian = features.T @ (curvature[:, None] * features)
    expected = -lin.residual[:, None] * (features @ np.linalg.pinv(hessian) @ queries.T)
    np.testing.assert_allclose(influence(without_empty_columns(lin)), expected, rtol=1e-10)


@pytest.mark.parametrize(("layer", "own"), [("first layer alone", slice(390)), ("last layer alone", slice(390, None))])
def test_a_layer_alone_has_its_own_columns_and_scales(layer, own):
    """The hidden layer of 64-6-10 has 6 · 64 + 6 parameters, which come first."""
    from simulations.studies.retraining.sketched_restored import Setting

    optimizer, fraction = RECIPES["AdamW"]
    rng = np.random.default_rng(0)
    model = digits_network(optimizer, n=120, hidden=6, queries=4, rng=rng)
    found = Setting(model, fraction, rng).restored(10, None, layer=layer).scores
    scales, ridge = coordinates(model)
    jacobian, queries = (rows * scales for rows in (model.jacobian, model.query_gradients))
    parts = jacobian[..., own], model.probabilities, model.labels, queries[:, own]
    expected = restored_block_influence(*parts, ridge, fraction=fraction)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
