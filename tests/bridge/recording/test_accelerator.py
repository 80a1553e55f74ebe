"""Recorded torch runs on every device that torch finds: the CPU, and an accelerator under `make test-gpu`."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is an optional extra")

from support.networks.torch_problems import batches, cnn, images, loop, mlp, seeded  # noqa: E402
from torch import nn  # noqa: E402

from trak_theory.torch_bridge import TorchObjective, cross_entropy, preflight  # noqa: E402
from trak_theory.trajectory import (  # noqa: E402
    Convention,
    Run,
    attribute,
    attribute_samples,
    loss_query,
    retrain_without,
)
from trak_theory.trajectory.sweep.reverse import Settings, reverse_sweep  # noqa: E402

ACCELERATOR = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
DEVICES = ["cpu", *([ACCELERATOR.type] if ACCELERATOR is not None else [])]
SHAPES = {"mlp": (mlp, (6,)), "cnn": (cnn, (1, 8, 8))}
ESTIMATORS = ("first-order", "two-step", "frozen-push")


@pytest.fixture(autouse=True)
def _full_float32(monkeypatch):
    """The loop is compared with the objective at every step: TF32 in one of the two would be refused."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def objective(name, device):
    build, shape = SHAPES[name]
    pixels, labels = images(shape)
    return TorchObjective(seeded(build).float().to(device), cross_entropy, pixels.float().to(device), labels.to(device))


def recorded(one, kind="AdamW", **settings):
    parameters = list(one.model.module.parameters())
    return loop(one, getattr(torch.optim, kind)(parameters, lr=1e-2), batches(), clip_norm=0.5, **settings)


def close(found, expected, tolerance=2e-3):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("name", SHAPES)
def test_scores_are_those_of_float64_on_the_cpu(name, estimator, device):
    build, shape = SHAPES[name]
    double = TorchObjective(seeded(build), cross_entropy, *images(shape))
    expected = attribute(recorded(double), loss_query(double, [0, 1, 2]), estimator=estimator).influence
    one = objective(name, device)
    run = recorded(one)
    assert run.final.device.type == device
    assert run.final.dtype == torch.float32
    close(attribute(run, loss_query(one, [0, 1, 2]), estimator=estimator).influence, expected)


@pytest.mark.parametrize("device", DEVICES)
def test_retraining_replay_and_some_samples(device):
    one = objective("mlp", device)
    run, query = recorded(one, every=3), loss_query(one, [0, 1, 2])
    found = attribute(run, query).influence
    close(attribute(recorded(objective("mlp", device)), query).influence, found, 1e-4)
    close(attribute_samples(run, query, [4, 7]), found[[4, 7]], 1e-4)
    truth = retrain_without(run, [[4], [7]]).influence(query)
    assert np.corrcoef(truth.ravel(), found[[4, 7]].ravel())[0, 1] > 0.95


@pytest.mark.parametrize("device", DEVICES)
def test_saved_and_resumed(device, tmp_path):
    one = objective("mlp", device)
    run, query = recorded(one, every=3), loss_query(one, [0, 1, 2])
    run.save(tmp_path / "run")
    loaded = Run.load(tmp_path / "run", objective("mlp", device))
    assert loaded.final.device.type == device

    def end(done, total):
        if done == 5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        attribute(run, query, folder=tmp_path / "sweep", progress=end)
    found = attribute(loaded, query, folder=tmp_path / "sweep").influence
    close(found, attribute(run, query).influence, 1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_bfloat16_weights_are_refused(device):
    with pytest.raises(ValueError, match=r"is trained in torch\.bfloat16"):
        TorchObjective(
            seeded(mlp).to(device, torch.bfloat16), cross_entropy, *(part.to(device) for part in images((6,)))
        )


@pytest.mark.parametrize("device", DEVICES)
def test_a_sweep_moves_no_vector_of_p_to_the_host(device, monkeypatch):
    """What goes to numpy, or to the CPU, is scores; θ_T, the control, would be seen."""
    one = objective("cnn", device)
    run, query = recorded(one), loss_query(one, [0, 1])
    moved = []
    for name in ("numpy", "cpu", "__array__", "tolist"):
        own = getattr(torch.Tensor, name)

        def seen(tensor, *args, own=own, **named):
            moved.append(tensor.numel())
            return own(tensor, *args, **named)

        monkeypatch.setattr(torch.Tensor, name, seen)
    for estimator in ESTIMATORS:
        list(reverse_sweep(run, query, Settings(estimator), Convention()))
    assert 0 < max(moved) < one.p
    np.asarray(run.final.cpu())
    assert max(moved) == one.p


def test_preflight_computes_in_full_float32_and_restores_what_was_set():
    seen = []

    def loss(outputs, targets):
        seen.append((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32))
        return nn.functional.cross_entropy(outputs, targets, reduction="none")

    pixels, labels = images((6,))
    one = TorchObjective(seeded(mlp).float(), loss, pixels.float(), labels)
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        seen.clear()
        preflight(one)
        assert set(seen) == {("highest", False)}
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == ("high", True)
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
