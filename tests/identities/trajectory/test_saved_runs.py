"""A saved run gives the same scores to the last bit; another model, other data or a damaged file is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from support.networks.trajectories import OPTIMIZERS, epochs, queries, small_glm, small_network, small_run, start

from trak_theory.errors import UnsupportedError
from trak_theory.trajectory import AdamW, Lion, Muon, Run, as_sgd, attribute, held, loss_query, train
from trak_theory.trajectory.optimizer.plain_data import as_plain, from_plain
from trak_theory.trajectory.optimizer.steps import AdamStep

NET = small_network()
MATRICES = Muon(0.02, shapes=[(NET.p, 1)], bfloat16=True)


def scores(run, objective=NET, **settings):
    return attribute(run, queries(objective), **settings).influence


@pytest.mark.parametrize("every", [1, 4, 5])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_scores_are_the_same_to_the_last_bit(tmp_path, name, every):
    run = small_run(NET, OPTIMIZERS[name], every=every)
    run.save(tmp_path)
    loaded = Run.load(tmp_path, small_network())
    for estimator in ("first-order", "two-step", "frozen-push"):
        np.testing.assert_array_equal(scores(loaded, estimator=estimator), scores(run, estimator=estimator))
    for t in range(run.steps + 1):
        for own, other in zip(run.state(t), loaded.state(t), strict=True):
            np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize("optimizer", [MATRICES, Lion(0.02)], ids=["muon", "lion"])
def test_matrices_and_signs_are_saved_too(tmp_path, optimizer):
    run = small_run(NET, optimizer, every=4)
    run.save(tmp_path)
    np.testing.assert_array_equal(scores(Run.load(tmp_path, NET)), scores(run))


@pytest.mark.parametrize("view", [as_sgd, lambda run: held(run, 5)], ids=["as_sgd", "held"])
def test_a_view_of_a_run_is_saved_as_what_it_shows(tmp_path, view):
    run = view(small_run(NET, AdamW(0.02), every=4))
    run.save(tmp_path)
    np.testing.assert_array_equal(
        scores(Run.load(tmp_path, NET), estimator="first-order"), scores(run, estimator="first-order")
    )


def test_a_generalised_linear_model(tmp_path):
    glm = small_glm()
    run = small_run(glm, AdamW(0.02))
    run.save(tmp_path)
    np.testing.assert_array_equal(scores(Run.load(tmp_path, small_glm()), glm), scores(run, glm))
    with pytest.raises(UnsupportedError, match="samples of its objective have changed"):
        Run.load(tmp_path, small_glm(seed=1))
    with pytest.raises(UnsupportedError, match="the loss of its objective"):
        Run.load(tmp_path, replace(glm, of_output=small_glm(loss="huber").of_output))


def test_only_checkpoints_are_written_and_nothing_is_pickled(tmp_path):
    small_run(NET, AdamW(0.02), every=5).save(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["run.json", "samples.npy", "sizes.npy", *(f"state-{t:07d}.npy" for t in (0, 5, 10, 12))]
    for path in tmp_path.glob("*.npy"):
        np.load(path, allow_pickle=False)
    json.loads((tmp_path / "run.json").read_text())


def test_a_sweep_goes_on_with_the_loaded_run(tmp_path):
    run = small_run(NET, AdamW(0.02), every=4)
    run.save(tmp_path / "run")

    def end(done, total):
        if done == 9:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        scores(run, folder=tmp_path / "sweep", progress=end)
    loaded = Run.load(tmp_path / "run", NET)
    np.testing.assert_array_equal(scores(loaded, folder=tmp_path / "sweep"), scores(run))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (small_network(n=25), "recorded with n = 24, this objective has n = 25"),
        (small_network(hidden=(5,)), r"recorded with p = 39, this objective has p = 48"),
        (small_network(seed=1), "samples of its objective have changed"),
        (small_network(activation="gelu"), "the architecture of its objective have changed"),
    ],
)
def test_another_objective_is_refused(tmp_path, other, message):
    small_run(NET, AdamW(0.02)).save(tmp_path)
    with pytest.raises(UnsupportedError, match=message):
        Run.load(tmp_path, other)


def test_a_model_that_has_no_fingerprint_is_told_by_its_losses(tmp_path):
    run = small_run(NET, AdamW(0.02), every=4)
    replace(run, fingerprint=None).save(tmp_path)
    Run.load(tmp_path, NET)
    with pytest.raises(UnsupportedError, match=r"losses are .* away from those of the run"):
        Run.load(tmp_path, small_network(activation="gelu"))


@pytest.mark.parametrize("how", ["missing", "cut", "empty", "one bit"])
@pytest.mark.parametrize("name", ["run.json", "samples.npy", "sizes.npy", "state-0000000.npy", "state-0000012.npy"])
def test_a_damaged_file_is_refused(tmp_path, name, how):
    small_run(NET, AdamW(0.02), every=4).save(tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        half, flipped = content[: len(content) // 2], content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
        path.write_bytes({"cut": half, "empty": b"", "one bit": flipped}[how])
    with pytest.raises(UnsupportedError, match=r"missing or damaged|is damaged|holds no run"):
        Run.load(tmp_path, NET)


def test_a_format_of_another_version_is_refused(tmp_path, monkeypatch):
    small_run(NET, AdamW(0.02)).save(tmp_path)
    monkeypatch.setattr("trak_theory.trajectory.states.saved.FORMAT", 2)
    with pytest.raises(UnsupportedError, match="in format 1, this version reads 2"):
        Run.load(tmp_path, NET)


def test_a_folder_that_holds_a_run_is_not_written_to(tmp_path):
    run = small_run(NET, AdamW(0.02))
    run.save(tmp_path)
    with pytest.raises(UnsupportedError, match="holds a run already"):
        run.save(tmp_path)


def test_what_cannot_be_saved_is_refused_before_anything_is_written(tmp_path):
    class Own(AdamW):
        def at(self, t, theta):
            return AdamStep(lr=0.1, beta1=0.9, beta2=0.9, eps=1e-8, correction1=1, correction2=1, decoupled=True)

    for optimizer, message in ((Own(0.02), "a run of Own cannot be saved"), (AdamW(np.float32(0.02)), "Python number")):
        run = train(NET, start(NET), epochs(NET, 6, 1), optimizer)
        with pytest.raises(UnsupportedError, match=message):
            run.save(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimiser_comes_back_as_it_was(name):
    optimizer = OPTIMIZERS[name]
    again = from_plain(json.loads(json.dumps(as_plain(optimizer, 40))))
    assert type(again) is type(optimizer)
    assert [again.rate(t) for t in range(40)] == [optimizer.rate(t) for t in range(40)]
    theta = np.zeros(39)
    for t in (0, 39):
        own, other = vars(optimizer.at(t, theta)), vars(again.at(t, theta))
        assert all(np.array_equal(value, other[part]) for part, value in own.items())


def test_a_recorded_torch_run_gives_the_same_scores(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is an optional extra")
    from support.networks.torch_problems import batches, loop, mlp_objective

    objective = mlp_objective()
    optimizer = torch.optim.AdamW(objective.model.module.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1 / (1 + t))
    run = loop(objective, optimizer, batches(), schedule=schedule, clip_norm=0.5, every=3)
    run.save(tmp_path)
    again = mlp_objective()  # at other parameters than θ_T: the states are the run's
    loaded = Run.load(tmp_path, again)
    query = [loss_query(one, [0, 1, 2]) for one in (objective, again)]
    expected, found = (attribute(one, own).influence for one, own in zip((run, loaded), query, strict=True))
    np.testing.assert_array_equal(found, expected)
    assert torch.is_tensor(loaded.final)
    relu = mlp_objective()
    relu.model.module[1] = torch.nn.ReLU()
    with pytest.raises(UnsupportedError, match=r"losses are .* away from those of the run"):
        Run.load(tmp_path, relu)
    with pytest.raises(UnsupportedError, match="give the objective that was recorded"):
        Run.load(tmp_path, NET)
