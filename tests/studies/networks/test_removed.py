"""Removals from a CNN and a GPT-2: both trainings have one start, and every answer the sign of retraining."""

import numpy as np
import pandas as pd
import pytest
import torch

from simulations.studies.retraining import removed_from_networks as study
from simulations.studies.retraining.share_removed import REMOVAL, total
from trak_theory.torch_bridge import next_token_loss
from trak_theory.trajectory import attribute, retrain_without


@pytest.fixture(scope="module", params=["CNN", "GPT-2"])
def trained(request):
    small = {"model": request.param, "recipe": "AdamW 3e-3", "samples": 60, "steps": 12, "queries": 4, "rank": 80}
    return study.BUILDERS[request.param](small, np.random.default_rng(0))


def test_both_trainings_start_alike_and_see_other_batches(trained):
    network, again = trained
    assert np.array_equal(network.run.state(0)[0], again.state(0)[0])
    assert np.array_equal(np.unique(network.run.batches), np.unique(again.batches))
    assert not np.array_equal(network.run.batches, again.batches)
    assert again.objective.n == network.run.objective.n


def test_every_answer_has_the_sign_of_retraining(trained):
    network, _ = trained
    removed = np.arange(12 * (network.run.objective.n // 12)).reshape(12, -1)
    truth = retrain_without(network.run, removed, removal=REMOVAL).influence(network.query)
    sums = total(attribute(network.run, network.query, estimator="two-step", removal=REMOVAL).influence, removed)
    found = {"two-step": sums, study.RESTORED: total(network.restored(0.9), removed)}
    for name, answer in {**found, **dict(network.refitted(removed, sums))}.items():
        assert answer.shape == truth.shape
        assert np.corrcoef(answer.ravel(), truth.ravel())[0, 1] > 0.3, name


def test_the_block_of_a_cnn_is_the_slope_of_its_logits_in_the_scaled_parameters():
    small = {"recipe": "AdamW 1e-3", "samples": 40, "steps": 6, "queries": 2, "rank": 60}
    network, _ = study.images(small, np.random.default_rng(4))
    jacobian, _, _, queries, _ = network.block
    scales, _ = network.model.scales(network.model.linearize())
    step = 1e-6 * scales * np.random.default_rng(0).standard_normal(scales.size)
    ends = [torch.from_numpy(network.run.final.numpy() + sign * step) for sign in (1, -1)]
    logits = [network.run.objective.outputs(theta, np.arange(40)).numpy() for theta in ends]
    np.testing.assert_allclose(jacobian @ (step / scales), (logits[0] - logits[1]) / 2, rtol=1e-6, atol=1e-12)
    margins = [network.query.read(theta) for theta in ends]
    np.testing.assert_allclose(queries @ (step / scales), (margins[0] - margins[1]) / 2, rtol=1e-6, atol=1e-12)


def test_a_cell_has_every_answer_at_every_share():
    small = {"model": "CNN", "recipe": "AdamW 1e-3", "samples": 40, "steps": 6, "queries": 2, "sets": 8, "rank": 60}
    rows = pd.DataFrame(study.run(small, np.random.default_rng(2)))
    assert list(rows["removed"].unique()) == [1, 4, 10, 20]  # 1 % of 40 is one sample
    for _, part in rows.groupby("share"):
        assert tuple(part["answer"]) == study.ANSWERS
    fidelity = rows.set_index(["answer", "removed"])["fidelity"]
    single, mixed = fidelity["two-step", 1], fidelity[study.BOTH, 1]
    assert mixed == pytest.approx(single, abs=1e-3)  # of one sample the twin says nothing beyond its own sum
    assert single > 0.9
    assert fidelity[study.AGAIN, 1] < single


def test_the_sequences_of_an_objective_are_put_together_again():
    network, _ = study.text({"model": "GPT-2", "recipe": "AdamW 1e-3", "queries": 2}, np.random.default_rng(1))
    whole, objective = study.tokens(network.setting.objective), network.setting.objective
    logits = network.setting.model(input_ids=whole).logits
    expected = next_token_loss(logits, whole).detach().numpy()
    assert objective.loss(network.run.final, np.arange(objective.n)) == pytest.approx(expected, rel=1e-12)


def test_single_samples_are_drawn_once():
    removed = study.removed_sets(20, 1, 20, np.random.default_rng(0))
    assert sorted(removed.ravel()) == list(range(20))
    assert study.removed_sets(20, 3, 5, np.random.default_rng(0)).shape == (5, 3)
