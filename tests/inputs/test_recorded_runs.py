"""What makes a recorded run worthless is noticed: shared folders, changed data, a training that does not repeat."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is an optional extra")

from support.networks.torch_problems import N, batches, images, loop, mlp, mlp_objective, seeded  # noqa: E402

from trak_theory.torch_bridge import TorchObjective, UnsupportedError, cross_entropy  # noqa: E402
from trak_theory.trajectory import attribute, loss_query, retrain_without  # noqa: E402


def adamw(objective, **settings):
    return torch.optim.AdamW(objective.model.module.parameters(), lr=1e-2, **settings)


def recorded(**settings):
    objective = mlp_objective()
    return loop(objective, adamw(objective), batches(), **settings)


def test_two_runs_in_one_directory_keep_their_own_states(tmp_path):
    runs, queries = [], []
    for seed in (1, 2):
        objective = mlp_objective()
        order = batches(seed=seed)
        runs.append(loop(objective, adamw(objective), order, every=3, directory=tmp_path))
        queries.append(loss_query(objective, [0, 1], mean=True))
        in_memory = mlp_objective()
        expected = loop(in_memory, adamw(in_memory), order)
        runs.append(expected)
    for kept, expected in (runs[:2], runs[2:]):
        for t in range(kept.steps + 1):
            np.testing.assert_allclose(kept.state(t)[0], expected.state(t)[0], atol=1e-12)
    assert len(list(tmp_path.iterdir())) == 2


def test_samples_that_changed_after_the_run_are_noticed():
    run = recorded()
    query = loss_query(run.objective, [0])
    run.objective.rows.args[0][3] += 1e-3
    for use in (lambda: attribute(run, query), lambda: retrain_without(run, [[0]])):
        with pytest.raises(UnsupportedError, match="since the run was recorded, samples of its objective have changed"):
            use()
    run.objective.rows.args[0][3] -= 1e-3
    run.objective.rows.targets[0] = (run.objective.rows.targets[0] + 1) % 3
    with pytest.raises(UnsupportedError, match="samples of its objective"):
        attribute(run, query)


def test_a_backbone_that_changed_after_the_run_is_noticed():
    module = seeded(mlp)
    module[0].requires_grad_(False)
    objective = TorchObjective(module, cross_entropy, *images((6,)))
    run = loop(objective, adamw(objective), batches())
    attribute(run, loss_query(objective, [0]))
    with torch.no_grad():
        module[0].weight[0, 0] += 1e-6
    with pytest.raises(UnsupportedError, match="frozen parameters or buffers of its objective have changed"):
        attribute(run, loss_query(objective, [0]))


def test_a_replay_that_misses_the_next_checkpoint_is_refused():
    run = recorded(every=3)
    run.batches[1][:] = run.batches[2]  # the array that the replay uses
    with pytest.raises(UnsupportedError, match=r"replaying steps 0 … 2 ends .* the training does not repeat itself"):
        run.state(1)


def test_a_replay_that_misses_the_end_is_refused():
    run = recorded(every=5)
    run.batches[6][:] = run.batches[0]
    run.state(4)
    with pytest.raises(UnsupportedError, match="kept at step 8"):
        run.state(6)


def test_uneven_passes_are_checked_at_every_step():
    objective = mlp_objective()
    order = [*batches(4), batches(1, 5)[0]]
    with pytest.raises(UnsupportedError, match=r"step 4: .*2 passes of 3, 2 samples of means over each"):
        loop(objective, adamw(objective), order, accumulate=2, check_every=100)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(3), rf"batch_weights have shape \(3,\), the objective has {N} samples"),
        (np.full(N, -1.0), "must be finite, ≥ 0 and not all 0, got -1.0 to -1.0"),
        (np.zeros(N), "not all 0"),
        (np.full(N, np.nan), "must be finite"),
    ],
)
def test_batch_weights_that_are_none_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        mlp_objective(batch_weights=weights)


def test_the_bridge_is_imported_without_transformers():
    code = "import sys, trak_theory.torch_bridge as b; assert 'transformers' not in sys.modules; print(len(b.__all__))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_name_that_the_bridge_lacks_is_an_attribute_error():
    import trak_theory.torch_bridge as bridge

    assert all(hasattr(bridge, name) for name in bridge.__all__ if name != "TrajectoryCallback")
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        bridge.nothing  # noqa: B018
