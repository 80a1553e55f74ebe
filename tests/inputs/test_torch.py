"""What the torch bridge refuses, each with its name and the fix."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is an optional extra")

from support.networks.torch_problems import batches, images, loop, mlp_objective, seeded  # noqa: E402
from torch import nn  # noqa: E402

from trak_theory.torch_bridge import (  # noqa: E402
    TorchObjective,
    TrajectoryRecorder,
    UnsupportedError,
    cross_entropy,
)
from trak_theory.torch_bridge.refusals import check_module  # noqa: E402

BatchNorm, Dropout = nn.BatchNorm1d, nn.Dropout


def wrapped(*parts):
    return seeded(lambda: nn.Sequential(nn.Linear(6, 5), *parts, nn.Linear(5, 3)))


class Attention(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.config = type("Config", (), {"_attn_implementation": kind})()


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (wrapped(Dropout(0.1)), r"Dropout '1' drops at random \(p = 0.1\).*set p = 0 or use module.eval"),
        (wrapped(BatchNorm(5)), r"BatchNorm1d '1' takes its mean and variance from the batch.*GroupNorm.*eval mode"),
        (wrapped(BatchNorm(5, track_running_stats=False)).eval(), "takes its mean and variance from the batch"),
        (nn.InstanceNorm1d(5, track_running_stats=True), "tracks running statistics"),
        (nn.LSTM(3, 3, num_layers=2, dropout=0.5), r"LSTM.*dropout = 0.5.*build it with dropout = 0"),
        (nn.MultiheadAttention(4, 2, dropout=0.5), r"MultiheadAttention.*build it with dropout = 0"),
        (Attention("flash_attention_2"), r"'flash_attention_2', which has no second.*attn_implementation=\"eager\""),
        (nn.Sequential(Attention("flash_attention_2")), "Attention '0' has the attention implementation"),
    ],
)
def test_a_model_that_no_trajectory_describes_is_refused(module, message):
    with pytest.raises(UnsupportedError, match=message):
        check_module(module)


@pytest.mark.parametrize(
    "module",
    [
        wrapped(Dropout(0.0)),
        wrapped(Dropout(0.5), BatchNorm(5)).eval(),
        wrapped(nn.GroupNorm(1, 5)),
        Attention("eager"),
        Attention("sdpa"),
        nn.LSTM(3, 3, num_layers=2, dropout=0.5).eval(),
    ],
)
def test_what_is_harmless_passes(module):
    check_module(module)


def adamw(objective, **settings):
    return torch.optim.AdamW(objective.model.module.parameters(), lr=1e-2, **settings)


def test_mixed_precision_is_refused_at_the_forward_pass():
    pixels, labels = images((6,))
    module = mlp_objective().model.module.float()
    objective = TorchObjective(module, cross_entropy, pixels.float(), labels)
    with (
        TrajectoryRecorder(objective, adamw(objective)),
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(UnsupportedError, match=r"autocast is on for cpu.*bf16=False, fp16=False"),
    ):
        module(pixels.float())


def test_dropout_that_is_switched_on_later_is_refused():
    pixels, labels = images((6,))
    module = wrapped(Dropout(0.5)).eval()
    objective = TorchObjective(module, cross_entropy, pixels, labels)
    with TrajectoryRecorder(objective, adamw(objective)):
        module.train()
        with pytest.raises(UnsupportedError, match="drops at random"):
            module(pixels)


def test_a_parameter_without_gradient_is_named():
    objective = mlp_objective()
    objective.model.module.idle = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    objective = TorchObjective(objective.model.module, cross_entropy, *images((6,)))

    def forward(x):
        return nn.Sequential.forward(nn.Sequential(*list(objective.model.module)[:3]), x)

    objective.model.module.forward = forward
    with pytest.raises(UnsupportedError, match=r"parameter 'idle' has no gradient.*requires_grad_"):
        loop(objective, adamw(objective), batches())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda m: torch.optim.RMSprop(m.parameters()), "torch.optim.RMSprop is not covered; Adam"),
        (lambda m: torch.optim.AdamW(m[0].parameters()), "parameter '2.weight' of the objective is not in the optim"),
        (lambda m: torch.optim.SGD([*m.parameters(), nn.Parameter(torch.ones(2))]), "1 parameters that are not"),
    ],
)
def test_an_optimiser_that_is_not_covered_is_refused(build, message):
    objective = mlp_objective()
    with pytest.raises(UnsupportedError, match=message):
        TrajectoryRecorder(objective, build(objective.model.module))


def test_an_option_that_changes_the_numbers_is_refused():
    objective = mlp_objective()
    with pytest.raises(ValueError, match="option maximize = True is not covered"):
        loop(objective, adamw(objective, maximize=True), batches())


def stepping(objective, optimizer, told, used, **settings):
    """One step of a loop that tells the recorder `told` and computes on `used`."""
    (inputs,), targets = objective.rows.args, objective.rows.targets
    with TrajectoryRecorder(objective, optimizer, **settings) as recorder:
        if told is not None:
            recorder.saw(told)
        cross_entropy(objective.model.module(inputs[used]), targets[used]).mean().backward()
        optimizer.step()
        return recorder


def test_samples_that_were_not_named_are_refused():
    objective = mlp_objective()
    with pytest.raises(UnsupportedError, match=r"step 0: the samples of this gradient are unknown.*recorder.saw"):
        stepping(objective, adamw(objective), None, [1, 2])


def test_samples_of_another_order_are_refused():
    objective = mlp_objective()
    with pytest.raises(UnsupportedError, match="in the order of the loader"):
        stepping(objective, adamw(objective), [1, 2], [1, 3])


def test_an_update_that_another_hand_changed_is_refused():
    objective = mlp_objective()
    optimizer = adamw(objective)

    def smaller(*_):
        for value in objective.model.module.parameters():
            value.data.mul_(0.9)

    optimizer.register_step_post_hook(smaller)
    with pytest.raises(UnsupportedError, match=r"the update made is .* away from AdamW's; does a hook"):
        stepping(objective, optimizer, [1, 2], [1, 2])


def test_clipping_that_was_not_told_is_refused():
    objective = mlp_objective()
    with pytest.raises(UnsupportedError, match=r"the loop clips to 0.01, the recorder was told clip_norm=1e"):
        loop(objective, adamw(objective), batches(), clip_norm=0.01, told=1e9)


def test_a_sum_instead_of_a_mean_is_refused():
    objective = mlp_objective()
    optimizer = adamw(objective)
    inputs, targets = objective.rows.args[0], objective.rows.targets
    with TrajectoryRecorder(objective, optimizer) as recorder:
        recorder.saw([1, 2])
        cross_entropy(objective.model.module(inputs[[1, 2]]), targets[[1, 2]]).sum().backward()
        with pytest.raises(UnsupportedError, match=r"cosine 1.0000, best-fit scale 2: .* sum over the batch"):
            optimizer.step()


def test_parameters_that_change_between_steps_are_refused():
    objective = mlp_objective()
    optimizer = adamw(objective)
    inputs, targets = objective.rows.args[0], objective.rows.targets
    with TrajectoryRecorder(objective, optimizer) as recorder:
        for _ in range(2):
            recorder.saw([1, 2])
            optimizer.zero_grad()
            cross_entropy(objective.model.module(inputs[[1, 2]]), targets[[1, 2]]).mean().backward()
            if len(recorder._batches):
                with pytest.raises(UnsupportedError, match="changed between two steps of the optimiser"):
                    optimizer.step()
            else:
                optimizer.step()
            objective.model.load(objective.theta() + 1e-3)


def test_a_closure_is_refused():
    objective = mlp_objective()
    optimizer = adamw(objective)
    with (
        TrajectoryRecorder(objective, optimizer),
        pytest.raises(UnsupportedError, match="computes its gradient inside"),
    ):
        optimizer.step(lambda: 0.0)


def test_momentum_that_comes_later_is_refused():
    objective = mlp_objective()
    optimizer = torch.optim.SGD(objective.model.module.parameters(), lr=0.1)

    class Later:
        def step(self):
            optimizer.param_groups[0]["momentum"] = 0.9

    with pytest.raises(UnsupportedError, match="momentum was switched on or off"):
        loop(objective, optimizer, batches(), schedule=Later())


def test_parameters_of_different_ages_are_refused():
    objective = mlp_objective()
    optimizer = adamw(objective)
    module = objective.model.module
    for part, steps in ((module[0], 2), (module[2], 1)):
        for _ in range(steps):
            for value in part.parameters():
                value.grad = torch.ones_like(value)
            optimizer.step()
            optimizer.zero_grad()
    with pytest.raises(UnsupportedError, match=r"updated \[1, 2\] times"):
        TrajectoryRecorder(objective, optimizer)


@pytest.mark.parametrize(
    ("indices", "message"),
    [([0, 99], "names sample 99"), ([], "non-empty"), ([0.5], "integer sample indices")],
)
def test_samples_that_do_not_exist_are_refused(indices, message):
    objective = mlp_objective()
    recorder = TrajectoryRecorder(objective, adamw(objective))
    with pytest.raises((ValueError, TypeError), match=message):
        recorder.saw(np.array(indices))


def test_a_run_without_steps_is_refused():
    objective = mlp_objective()
    with pytest.raises(ValueError, match="no step was recorded"):
        TrajectoryRecorder(objective, adamw(objective)).run()
