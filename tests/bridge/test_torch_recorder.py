"""A user's own torch loop, recorded: what it did is what the core says it did."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is an optional extra")

from support.networks.torch_problems import N, batches, cnn_objective, images, loop, mlp_objective  # noqa: E402
from torch import nn  # noqa: E402
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LambdaLR, OneCycleLR  # noqa: E402

from trak_theory.losses import Logistic  # noqa: E402
from trak_theory.torch_bridge import TorchObjective, cross_entropy, record_training  # noqa: E402
from trak_theory.trajectory import (  # noqa: E402
    SGD,
    Adam,
    AdamW,
    GLMObjective,
    attribute,
    loss_query,
    retrain_without,
    train,
)
from trak_theory.trajectory.states.training_step import advance  # noqa: E402

PAIRS = {
    "sgd": (SGD(0.3), lambda p: torch.optim.SGD(p, lr=0.3)),
    "nesterov": (
        SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    ),
    "adam": (Adam(0.05, weight_decay=0.1), lambda p: torch.optim.Adam(p, lr=0.05, weight_decay=0.1)),
    "adamw": (
        AdamW(0.05, betas=(0.8, 0.9), weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.05, betas=(0.8, 0.9), weight_decay=0.1),
    ),
    "amsgrad": (AdamW(0.05, amsgrad=True), lambda p: torch.optim.AdamW(p, lr=0.05, amsgrad=True)),
}


def logistic():
    """The same GLM for torch and for numpy."""
    rows, labels = images((6,))
    targets = (labels > 0).double()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = nn.Linear(6, 1, bias=False).double()

    def loss(outputs, y):
        return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], y, reduction="none")

    theirs = GLMObjective(rows.numpy(), targets.numpy(), np.ones(N), Logistic())
    return TorchObjective(module, loss, rows, targets), theirs


@pytest.mark.parametrize("clip_norm", [None, 0.2])
@pytest.mark.parametrize("name", PAIRS)
def test_the_recorded_glm_is_the_numpy_cores(name, clip_norm):
    ours, theirs = logistic()
    optimizer, build = PAIRS[name]
    optimizer = type(optimizer)(**{**vars(optimizer), "clip_norm": clip_norm, "schedule": lambda t: 0.8**t})
    start, order = ours.theta().numpy(), batches()
    real = build(ours.model.module.parameters())
    recorded = loop(ours, real, order, schedule=LambdaLR(real, lambda t: 0.8**t), clip_norm=clip_norm, accumulate=2)
    expected = train(theirs, start, order, optimizer)
    assert recorded.steps == expected.steps
    for t in range(recorded.steps + 1):
        for a, b in zip(recorded.state(t), expected.state(t), strict=True):
            np.testing.assert_allclose(a.numpy(), b, rtol=0, atol=1e-10)
    column = np.linspace(-1, 1, 6)
    for estimator in ("two-step", "first-order", "sgd"):
        a, b = (attribute(run, column, estimator=estimator).influence for run in (recorded, expected))
        assert np.abs(b).max() > 1e-4
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)
    a, b = (retrain_without(run, [[0], [1, 2]]).influence(column) for run in (recorded, expected))
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)


def unrolled(objective, theta, order, weights, query, *, lr, betas, decay, eps=1e-8):
    """f(θ_T) of AdamW written out with plain autograd, a weight for every sample."""
    m, v = torch.zeros_like(theta), torch.zeros_like(theta)
    for n, batch in enumerate(order, 1):
        sample = objective.rows.take(batch, theta)
        losses = objective.of_output(objective.model(theta, *sample[:2]), sample[2])
        (g,) = torch.autograd.grad((weights[batch] * losses).mean(), theta, create_graph=True)
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g * g
        theta = (1 - lr * decay) * theta - lr * (m / (1 - betas[0] ** n)) / ((v / (1 - betas[1] ** n)).sqrt() + eps)
    sample = query.rows.take(np.arange(query.n), theta)
    return query.of_output(query.model(theta, *sample[:2]), sample[2]).mean()


@pytest.mark.parametrize("build", [mlp_objective, cnn_objective])
def test_the_sweep_is_autograd_through_the_whole_run(build):
    objective, order = build(), batches(6)
    held_out = TorchObjective(objective.model.module, cross_entropy, *images(objective.rows.args[0].shape[1:], seed=8))
    settings = {"lr": 3e-2, "betas": (0.9, 0.95)}
    theta = objective.theta().requires_grad_()
    weights = torch.ones(N, dtype=torch.float64, requires_grad=True)
    value = unrolled(objective, theta, order, weights, held_out, decay=0.1, **settings)
    (slope,) = torch.autograd.grad(value, weights)
    real = torch.optim.AdamW(objective.model.module.parameters(), weight_decay=0.1, **settings)
    run = loop(objective, real, order)
    query = loss_query(held_out, np.arange(N), mean=True)
    np.testing.assert_allclose(query.read(run.final)[0], value.item(), rtol=1e-12)
    found = attribute(run, query, estimator="first-order").influence[:, 0]
    assert np.abs(found).max() > 1e-3
    np.testing.assert_allclose(found, slope, rtol=0, atol=1e-8 * np.abs(found).max())


def two_groups(module):
    return [
        {"params": module[0].parameters(), "lr": 3e-2},
        {"params": module[2].parameters(), "weight_decay": 0.3, "betas": (0.7, 0.8)},
    ]


LOOPS = {
    "groups and a cosine": lambda m: (torch.optim.AdamW(two_groups(m), lr=1e-2), lambda o: CosineAnnealingLR(o, 8)),
    "a schedule of its own for every group": lambda m: (
        torch.optim.AdamW(two_groups(m), lr=1e-2),
        lambda o: LambdaLR(o, [lambda t: 0.5**t, lambda t: 1.0 + t]),
    ),
    "momentum that cycles": lambda m: (
        torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9),
        lambda o: OneCycleLR(o, max_lr=0.3, total_steps=9),
    ),
    "momentum in one group": lambda m: (
        torch.optim.SGD([{"params": m[0].parameters(), "momentum": 0.9}, {"params": m[2].parameters()}], lr=0.1),
        lambda o: ConstantLR(o),
    ),
}


@pytest.mark.parametrize("name", LOOPS)
def test_groups_schedules_clipping_and_accumulation_replay(name, tmp_path):
    objective = mlp_objective()
    optimizer, schedule = LOOPS[name](objective.model.module)
    run = loop(objective, optimizer, batches(), schedule=schedule(optimizer), clip_norm=0.3, accumulate=3, every=3)
    assert torch.equal(run.final, objective.theta())
    assert [len(batch) for batch in run.batches] == [6] * 8
    state = run.state(0)
    for t, batch in enumerate(run.batches):
        state = advance(objective, batch, run.optimizer, t, state)
    np.testing.assert_allclose(state[0], run.final, rtol=0, atol=1e-13)
    query = loss_query(objective, [0, 1], mean=True)
    truth = retrain_without(run, np.arange(N)[:, None], cache=tmp_path)
    assert truth.agreement(attribute(run, query)).spearman > 0.9


def test_a_recording_starts_in_the_middle_of_training():
    whole, split = mlp_objective(), mlp_objective()
    order = batches()
    optimizers = [torch.optim.AdamW(o.model.module.parameters(), lr=1e-2) for o in (whole, split)]
    expected = loop(whole, optimizers[0], order)
    loop(split, optimizers[1], order[:5])
    late = loop(split, optimizers[1], order[5:])
    for t in range(4):
        for a, b in zip(late.state(t), expected.state(5 + t), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-15)
    state = late.state(0)
    for t, batch in enumerate(late.batches):
        state = advance(split, batch, late.optimizer, t, state)
    np.testing.assert_allclose(state[0], late.final, rtol=0, atol=1e-14)


def test_single_precision_stays_single():
    pixels, labels = images((6,))
    module = mlp_objective().model.module.float()
    objective = TorchObjective(module, cross_entropy, pixels.float(), labels)
    run = loop(objective, torch.optim.AdamW(module.parameters(), lr=1e-2), batches())
    assert run.final.dtype == torch.float32
    assert attribute(run, loss_query(objective, [0])).influence.shape == (N, 1)


def test_the_ready_made_loop_is_the_written_out_one(tmp_path):
    first, second = mlp_objective(), mlp_objective()
    runs = []
    for objective, train_it in ((first, loop), (second, record_training)):
        optimizer = torch.optim.AdamW(objective.model.module.parameters(), lr=1e-2)
        schedule = CosineAnnealingLR(optimizer, 8)
        runs.append(
            train_it(objective, optimizer, batches(), schedule=schedule, clip_norm=0.4, every=4, directory=tmp_path)
        )
    assert torch.equal(runs[0].final, runs[1].final)
    assert all(torch.equal(a, b) for a, b in zip(runs[0].state(6), runs[1].state(6), strict=True))
    assert [len(list(folder.iterdir())) for folder in tmp_path.iterdir()] == [3, 3]  # states 0, 4 and 8


def test_a_trainer_is_recorded_with_its_own_order_schedule_and_accumulation(tmp_path):
    pytest.importorskip("transformers", reason="transformers is an optional extra")
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

    from trak_theory.torch_bridge.recording.callback import TrajectoryCallback

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=30,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=8,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
        attn_implementation="eager",
    )
    model = LlamaForCausalLM(config)
    tokens = torch.randint(30, (N, 8))

    def loss(outputs, targets):
        losses = nn.functional.cross_entropy(outputs[:, :-1].transpose(-1, -2), targets[:, 1:], reduction="none")
        return losses.mean(-1)

    objective = TorchObjective(model, loss, {"input_ids": tokens}, tokens)
    settings = TrainingArguments(
        str(tmp_path),
        num_train_epochs=2,
        per_device_train_batch_size=3,
        gradient_accumulation_steps=2,
        learning_rate=1e-2,
        weight_decay=0.1,
        lr_scheduler_type="cosine",
        warmup_steps=2,
        max_grad_norm=0.5,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    rows = [{"input_ids": row, "labels": row} for row in tokens]
    recorder = TrajectoryCallback(objective)
    with pytest.raises(ValueError, match="nothing was recorded"):
        recorder.run()
    Trainer(model, settings, train_dataset=rows, callbacks=[recorder]).train()
    run = recorder.run()
    assert sorted(np.concatenate(run.batches[:4]).tolist()) == list(range(N))  # the first epoch
    assert [len(batch) for batch in run.batches] == [6] * 8
    assert torch.equal(run.final, objective.theta())
    state = run.state(0)
    for t, batch in enumerate(run.batches):
        state = advance(objective, batch, run.optimizer, t, state)
    np.testing.assert_allclose(state[0], run.final, rtol=0, atol=1e-5)

    few = TorchObjective(model, loss, {"input_ids": tokens[:20]}, tokens[:20])
    with pytest.raises(ValueError, match="of a batch is none of the objective's 20 samples"):
        Trainer(model, settings, train_dataset=rows, callbacks=[TrajectoryCallback(few)]).train()
    for option, value, message in (
        ("bf16", True, "mixed precision"),
        ("neftune_noise_alpha", 1.0, "adds noise to the embeddings; leave it out"),
        ("optim_args", "x=1", "changes the optimiser; leave it out"),
        ("gradient_checkpointing", True, "set it to False"),
    ):
        before = getattr(settings, option)
        setattr(settings, option, value)
        with pytest.raises(ValueError, match=message):
            recorder.on_train_begin(settings, None, None)
        setattr(settings, option, before)
    with pytest.raises(ValueError, match="by name"):
        TrajectoryCallback(mlp_objective())
    doubled = TorchObjective(model, loss, {"input_ids": tokens[[0, 0]]}, tokens[[0, 0]])
    with pytest.raises(ValueError, match="1 samples repeat another's"):
        TrajectoryCallback(doubled)
