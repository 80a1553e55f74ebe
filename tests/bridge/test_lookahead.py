"""Selection in a torch.optim loop is the selection of the numpy code. Torch is an extra."""

from __future__ import annotations

import numpy as np
import pytest
from support.networks.trajectories import small_network, start

from trak_theory.trajectory import SGD, AdamW, select

torch = pytest.importorskip("torch", reason="torch is an optional extra")

NET = small_network(n=40)
CANDIDATES = list(np.random.default_rng(0).permutation(np.tile(np.arange(24), 2).reshape(2, 24), axis=1).reshape(8, 6))
VALIDATION = np.arange(24, 32)
OPTIMIZERS = {
    "AdamW": (AdamW(0.02, weight_decay=0.1), lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.1)),
    "SGD": (SGD(0.1, momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
    "clipped": (AdamW(0.02, clip_norm=0.5), lambda p: torch.optim.AdamW(p, lr=0.02)),
}


def torch_network():
    """The module of NET at its start, and the objective of its samples."""
    from trak_theory.torch_bridge import TorchObjective, cross_entropy

    layers = [torch.nn.Linear(5, 4, dtype=torch.float64), torch.nn.Tanh(), torch.nn.Linear(4, 3, dtype=torch.float64)]
    module = torch.nn.Sequential(*layers)
    objective = TorchObjective(module, cross_entropy, torch.from_numpy(NET.features), torch.from_numpy(NET.labels))
    objective.model.load(torch.from_numpy(start(NET)))
    return module, objective


@pytest.mark.parametrize("horizon", [0, 2, None])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_torch_loop_keeps_the_samples_that_the_numpy_loop_keeps(name, horizon):
    from trak_theory.torch_bridge import BatchSelector

    ours, make = OPTIMIZERS[name]
    module, objective = torch_network()
    optimizer = make(module.parameters())
    selector = BatchSelector(
        objective, optimizer, VALIDATION, keep=0.5, horizon=horizon, clip_norm=ours.clip_norm, estimator="two-step"
    )
    kept = []
    for t in range(len(CANDIDATES)):
        kept.append(selector(CANDIDATES[t:]))
        inputs, labels = objective.rows.args[0][kept[-1]], objective.rows.targets[kept[-1]]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(inputs), labels).backward()
        if ours.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(module.parameters(), ours.clip_norm)
        optimizer.step()
    chosen = select(
        NET, CANDIDATES, VALIDATION, ours, start=start(NET), keep=0.5, horizon=horizon, estimator="two-step"
    )
    assert [batch.tolist() for batch in kept] == [batch.tolist() for batch in chosen.batches]
    np.testing.assert_allclose(objective.theta().numpy(), chosen.final, rtol=0, atol=1e-9)


def test_the_loop_of_the_library_runs_on_torch_states():
    _, objective = torch_network()
    for how in ({"horizon": 2}, {"policy": "offline"}, {"policy": "largest-loss"}):
        theirs = select(objective, CANDIDATES, VALIDATION, AdamW(), start=objective.theta(), keep=0.5, **how)
        ours = select(NET, CANDIDATES, VALIDATION, AdamW(), start=start(NET), keep=0.5, **how)
        assert [batch.tolist() for batch in theirs.batches] == [batch.tolist() for batch in ours.batches]
        assert theirs.cost == ours.cost


def test_scoring_leaves_the_model_as_it_is_and_all_candidates_are_not_scored():
    from trak_theory.torch_bridge import BatchSelector

    module, objective = torch_network()
    optimizer = torch.optim.AdamW(module.parameters())
    before = objective.theta()
    BatchSelector(objective, optimizer, VALIDATION, keep=0.5, horizon=3)(CANDIDATES)
    assert torch.equal(before, objective.theta())
    assert all(parameter.grad is None for parameter in module.parameters())
    everything = BatchSelector(objective, optimizer, VALIDATION, keep=1.0)(CANDIDATES)
    assert everything.tolist() == CANDIDATES[0].tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"horizon": -1}, "horizon must be an integer ≥ 0"),
        ({"validation": []}, "validation must be a non-empty list"),
        ({"validation": [0]}, "1 validation samples are candidates too, the first is 0"),
        ({"keep": 0}, r"keep must lie in \(0, 1\], got 0"),
        ({"keep": 0.01}, "of which a share keep = 0.01 is none"),
    ],
)
def test_the_selector_checks_its_input(change, message):
    from trak_theory.torch_bridge import BatchSelector

    module, objective = torch_network()
    how = {"validation": VALIDATION, "keep": 0.5, **change}
    batches = [np.arange(6), np.arange(6, 12)]
    with pytest.raises(ValueError, match=message):
        BatchSelector(objective, torch.optim.AdamW(module.parameters()), **how)(batches)


def test_an_optimiser_that_is_not_covered_is_named():
    from trak_theory.torch_bridge import BatchSelector

    module, objective = torch_network()
    with pytest.raises(ValueError, match=r"RMSprop is not covered"):
        BatchSelector(objective, torch.optim.RMSprop(module.parameters()), VALIDATION, keep=0.5)
