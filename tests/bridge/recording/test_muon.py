"""torch.optim.Muon: its updates, and a recorded run of it."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is an optional extra")
if not hasattr(torch.optim, "Muon"):
    pytest.skip("torch.optim.Muon came with torch 2.9", allow_module_level=True)

from support.networks.torch_problems import CLASSES, N, images, seeded  # noqa: E402
from torch import nn  # noqa: E402

from trak_theory.errors import UnsupportedError  # noqa: E402
from trak_theory.torch_bridge import TorchObjective, cross_entropy, record_training  # noqa: E402
from trak_theory.trajectory import Muon, attribute, loss_query, retrain_without  # noqa: E402
from trak_theory.trajectory.states.training_step import advance  # noqa: E402

SETTINGS = {
    "default": {"lr": 0.01},
    "plain": {"lr": 0.02, "nesterov": False, "momentum": 0.8, "weight_decay": 0.0},
    "rms": {"lr": 0.02, "adjust_lr_fn": "match_rms_adamw", "ns_steps": 3},
}


def objective(bias=False):
    pixels, labels = images((6,))
    layers = (nn.Linear(6, 8, bias=bias), nn.Tanh(), nn.Linear(8, CLASSES, bias=bias))
    return TorchObjective(seeded(lambda: nn.Sequential(*layers)), cross_entropy, pixels, labels)


def recorded(**settings):
    own = objective()
    order = np.random.default_rng(0).permutation(N).reshape(-1, 4)
    return record_training(own, torch.optim.Muon(own.model.module.parameters(), **settings), [*order, *order])


@pytest.mark.parametrize("name", SETTINGS)
def test_every_update_is_torchs_without_its_bfloat16(monkeypatch, name):
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self.clone())
    monkeypatch.setattr(Muon, "rounding", 1.0)  # of the recorder's check, which rounds
    own = objective()
    optimizer = torch.optim.Muon(own.model.module.parameters(), **SETTINGS[name])
    order = np.random.default_rng(0).permutation(N).reshape(-1, 4)
    run = record_training(own, optimizer, order)
    for t in range(run.steps):
        change, buffer = run.step(t).increment(run.state(t), run.gradient(t))
        np.testing.assert_allclose(run.state(t)[0] + change, run.state(t + 1)[0], rtol=0, atol=1e-12)
        np.testing.assert_allclose(buffer, run.state(t + 1)[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_replay_repeats_torchs_bfloat16(name):
    run = recorded(**SETTINGS[name])
    off, exact = [], []
    for t in range(run.steps):
        state, after = run.state(t), run.state(t + 1)
        made = advance(run.objective, run.batches[t], run.optimizer, t, state)
        length = torch.linalg.vector_norm(after[0] - state[0])
        off.append(float(torch.linalg.vector_norm(made[0] - after[0]) / length))
        change = run.step(t).increment(state, run.gradient(t))[0]
        exact.append(float(torch.linalg.vector_norm(state[0] + change - after[0]) / length))
    assert np.median(off) < 1e-3 < np.median(exact)


def test_the_influence_on_a_recorded_run_is_that_of_retraining():
    run = recorded(lr=1e-3)
    query = loss_query(run.objective, np.arange(8), mean=True)
    truth = retrain_without(run, np.arange(N)[:, None]).influence(query)
    found = attribute(run, query).influence
    assert np.corrcoef(found[:, 0], truth[:, 0])[0, 1] > 0.9


def test_what_muon_does_not_train_is_named():
    own = objective(bias=True)
    weights = [value for value in own.model.module.parameters() if value.ndim == 2]
    with pytest.raises(UnsupportedError, match=r"parameter '0\.bias' of the objective is not in the optimiser"):
        record_training(own, torch.optim.Muon(weights), [np.arange(4)])
