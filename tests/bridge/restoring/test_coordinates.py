"""Scales and ridge of a torch optimiser's groups."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from trak_theory.errors import UnsupportedError  # noqa: E402
from trak_theory.retraining.ridge_rule import TrainingRecipe, adam_scales  # noqa: E402
from trak_theory.torch_bridge import training_coordinates  # noqa: E402


def trained(optimizer_of, steps: int = 20):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    optimizer = optimizer_of(module)
    x, y = torch.randn(30, 4).double(), torch.randint(2, (30,))
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x), y).backward()
        optimizer.step()
    return module, optimizer


def test_one_group_of_adamw_is_adam_scales():
    module, optimizer = trained(lambda module: torch.optim.AdamW(module.parameters(), lr=1e-2, weight_decay=0.1))
    moment = np.concatenate(
        [optimizer.state[value]["exp_avg_sq"].reshape(-1).numpy() for value in module.parameters()]
    ) / (1 - 0.999**20)
    expected, ridge = adam_scales(TrainingRecipe(0.1, np.full(20, 1e-2)), moment, 30)
    scales, found = training_coordinates(module, optimizer, 30, schedule=np.ones(20))
    assert found == pytest.approx(ridge, rel=1e-12)
    np.testing.assert_allclose(scales, expected, rtol=1e-12)


def test_groups_have_a_ridge_each():
    def optimizer_of(module):
        weights, biases = module[0].weight, [module[0].bias, module[2].bias]
        return torch.optim.SGD(
            [
                {"params": [weights], "weight_decay": 1e-2, "initial_lr": 0.2},
                {"params": biases, "lr": 0.5},
                {"params": [module[2].weight], "weight_decay": 1e-3},
            ],
            lr=0.1,
            momentum=0.9,
        )

    module, optimizer = trained(optimizer_of)
    schedule = np.linspace(1, 0, 20)
    scales, ridge = training_coordinates(module, optimizer, 30, schedule=schedule)
    total = schedule.sum() / (1 - 0.9)
    expected = [1e-2 + 1 / (0.2 * total)] * 12 + [1 / (0.5 * total)] * 3 + [1e-3 + 1 / (0.1 * total)] * 6
    expected += [1 / (0.5 * total)] * 2
    np.testing.assert_allclose(ridge / scales**2, 30 * np.array(expected), rtol=1e-12)


def test_parameters_that_no_gradient_moved_do_not_count():
    def optimizer_of(module):
        module[0].weight.requires_grad_(False)
        return torch.optim.AdamW(module.parameters(), lr=1e-2)

    module, optimizer = trained(optimizer_of)
    module[0].weight.requires_grad_(True)
    scales, _ = training_coordinates(module, optimizer, 30, schedule=np.ones(20))
    assert not scales[:12].any()
    assert np.all(scales[12:] > 0)


def test_other_optimisers_and_parameters_of_none_are_refused():
    module, optimizer = trained(lambda module: torch.optim.RMSprop(module.parameters()))
    with pytest.raises(UnsupportedError, match="RMSprop"):
        training_coordinates(module, optimizer, 30, schedule=np.ones(20))
    partial = torch.optim.SGD([module[0].weight], lr=0.1)
    with pytest.raises(UnsupportedError, match=r"does not train parameter '0\.bias'"):
        training_coordinates(module, partial, 30, schedule=np.ones(20))
    fresh = torch.optim.AdamW(module.parameters())
    with pytest.raises(ValueError, match="nothing was trained"):
        training_coordinates(module, fresh, 30, schedule=np.ones(20))
