"""Preflight: it leaves everything as it was, costs little, and names the layer."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is an optional extra")

from support.networks.torch_problems import CLASSES, images, mlp_objective, seeded  # noqa: E402
from torch import nn  # noqa: E402

from trak_theory.torch_bridge import TorchObjective, UnsupportedError, cross_entropy, preflight  # noqa: E402


class Centring(nn.Module):
    def forward(self, z):
        return z - z.mean(0)


def deep(part):
    block = nn.Sequential(nn.Linear(5, 5), part, nn.Tanh())
    return seeded(
        lambda: nn.Sequential(nn.Linear(6, 5), nn.ModuleDict({"block": block})["block"], nn.Linear(5, CLASSES))
    )


def objective_of(module, size=(6,)):
    return TorchObjective(module, cross_entropy, *images(size))


def test_nothing_is_changed():
    objective = mlp_objective()
    module = objective.model.module
    module[0].weight.grad = torch.ones_like(module[0].weight)
    module[1].eval()
    before, drawn = objective.theta(), torch.get_rng_state()
    preflight(objective)
    assert torch.equal(objective.theta(), before)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert torch.equal(module[0].weight.grad, torch.ones_like(module[0].weight))
    assert module[0].bias.grad is None
    assert module[0].training
    assert not module[1].training


def test_it_costs_about_ten_gradients_of_four_samples():
    objective = mlp_objective()
    samples = []
    objective.model.module.register_forward_pre_hook(lambda module, args: samples.append(args[0].shape[0]))
    preflight(objective)
    assert sum(samples) / 4 < 20  # forward passes; two of them have no backward pass


def test_the_innermost_layer_is_named():
    with pytest.raises(UnsupportedError, match=r"samples interact in Centring '1.1': alone, .* GroupNorm"):
        preflight(objective_of(deep(Centring())))


def test_samples_along_another_axis_are_no_interaction():
    class SequenceFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0)
            self.head = nn.Linear(4, CLASSES)

        def forward(self, x):
            return self.head(self.layer(x.transpose(0, 1)).mean(0))

    preflight(objective_of(seeded(SequenceFirst), (5, 4)))

    class Mixed(SequenceFirst):
        def forward(self, x):
            return self.head(self.layer(x).mean(1))  # batch and sequence exchanged

    with pytest.raises(UnsupportedError, match=r"samples interact in MultiheadAttention 'layer.self_attn'"):
        preflight(objective_of(seeded(Mixed), (5, 4)))


def test_a_loss_of_pairs_is_named():
    module = mlp_objective().model.module

    def loss(z, y):
        return nn.functional.cross_entropy(z, y, reduction="none") - 0.1 * (z @ z.T).mean(1)

    with pytest.raises(UnsupportedError, match="samples interact in the loss"):
        preflight(TorchObjective(module, loss, *images((6,))))


def test_a_wrong_second_derivative_is_told_by_its_parameter():
    class Halved(torch.autograd.Function):
        """x² whose second derivative is half of what it is."""

        generate_vmap_rule = True

        @staticmethod
        def forward(x):
            return x * x

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(inputs[0])

        @staticmethod
        def backward(ctx, slope):
            x = ctx.saved_tensors[0]
            return slope * (x + x.detach())

    class Square(nn.Module):
        def forward(self, x):
            return Halved.apply(x)

    with pytest.raises(UnsupportedError, match=r"Hessian-vector product is .* at parameter '(0|1.0).(weight|bias)'"):
        preflight(objective_of(deep(Square())))


def test_kinks_at_the_start_are_no_wrong_derivative():
    module = seeded(lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, CLASSES)))
    with torch.no_grad():
        module[0].bias.zero_()
    pixels, labels = images((6,))
    pixels[0] = 0  # its pre-activations are exactly 0
    preflight(TorchObjective(module, cross_entropy, pixels, labels))


def test_one_sample_is_enough():
    preflight(TorchObjective(mlp_objective().model.module, cross_entropy, *images((6,), n=1)))


def test_only_samples_that_weigh_are_looked_at():
    pixels, labels = images((6,))
    pixels[0] = np.nan
    weights = np.ones(len(pixels))
    module = mlp_objective().model.module
    with pytest.raises(UnsupportedError, match="the loss of sample 0 is not finite"):
        preflight(TorchObjective(module, cross_entropy, pixels, labels, batch_weights=weights))
    weights[0] = 0
    preflight(TorchObjective(module, cross_entropy, pixels, labels, batch_weights=weights))


def test_large_models_are_checked_in_their_own_precision(monkeypatch):
    module = import_module("trak_theory.torch_bridge.curvature_checks")
    monkeypatch.setattr(module, "DOUBLE_BELOW", 1)
    pixels, labels = images((6,))
    model = mlp_objective().model.module.float()
    preflight(TorchObjective(model, cross_entropy, pixels.float(), labels))
