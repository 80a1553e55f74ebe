"""A sweep that is ended goes on from its last checkpoint, to the same scores; damage is computed again, never used."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.networks.trajectories import queries, small_network, small_run

from trak_theory.errors import UnsupportedError
from trak_theory.trajectory import AdamW, attribute

NET = small_network()
ESTIMATORS = ("first-order", "two-step", "frozen-push")


class Ended(Exception):
    """As if the process had been killed."""


def end_after(steps):
    def progress(done, total):
        if done == steps:
            raise Ended

    return progress


def work(estimator="two-step", **settings):
    """A run of 12 steps, checkpoints of its sweep every 4."""
    run = small_run(NET, AdamW(0.02), every=4)
    return attribute(run, queries(NET), estimator=estimator, **settings).influence


@pytest.mark.parametrize("steps", [1, 5, 8, 12])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_sweep_goes_on_from_its_last_checkpoint_to_the_same_scores(tmp_path, estimator, steps):
    with pytest.raises(Ended):
        work(estimator, folder=tmp_path, progress=end_after(steps))
    seen = []
    found = work(estimator, folder=tmp_path, progress=lambda done, total: seen.append((done, total)))
    np.testing.assert_array_equal(found, work(estimator))
    assert seen == [(done, 12) for done in range(1, 13)]


def test_what_was_done_is_not_done_again(tmp_path, monkeypatch):
    expected = work(folder=tmp_path)
    monkeypatch.setattr(type(NET), "hvp", None)
    np.testing.assert_array_equal(work(folder=tmp_path), expected)


@pytest.mark.parametrize("horizon", [0, 3])
def test_a_horizon_is_resumed_with_its_read_out_points(tmp_path, horizon):
    with pytest.raises(Ended):
        work(horizon=horizon, folder=tmp_path, progress=end_after(9))
    np.testing.assert_array_equal(work(horizon=horizon, folder=tmp_path), work(horizon=horizon))


def damage(path, how):
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])


@pytest.mark.parametrize("how", ["missing", "cut", "empty", "one bit"])
@pytest.mark.parametrize("name", ["at-0000004", "at-0000008", "done-0000004", "done-0000008"])
def test_a_damaged_checkpoint_is_computed_again(tmp_path, name, how):
    with pytest.raises(Ended):
        work(folder=tmp_path, progress=end_after(10))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "at-0000004",
        "at-0000008",
        "done-0000004",
        "done-0000008",
        "sweep",
    ]
    damage(tmp_path / name, how)
    np.testing.assert_array_equal(work(folder=tmp_path), work())


@pytest.mark.parametrize(
    "other", [{"estimator": "first-order"}, {"removal": "renormalise"}, {"damping": 0.9}, {"horizon": 3}]
)
def test_the_folder_of_another_sweep_is_refused(tmp_path, other):
    work(folder=tmp_path)
    with pytest.raises(UnsupportedError, match="holds a sweep of another run, query or setting"):
        work(**other, folder=tmp_path)


def test_the_folder_of_another_run_or_query_is_refused(tmp_path):
    work(folder=tmp_path)
    run = small_run(NET, AdamW(0.02), every=4)
    for own, query in ((small_run(NET, AdamW(0.021)), queries(NET)), (run, queries(NET, 2)), (run, 2 * queries(NET))):
        with pytest.raises(UnsupportedError, match="of another run"):
            attribute(own, query, folder=tmp_path, estimator="two-step")


SCRIPT = """
import os, signal, sys
import numpy as np
from support.networks.trajectories import queries, small_network, small_run
from trak_theory.trajectory import AdamW, attribute
def progress(done, total):
    if done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
net = small_network()
run = small_run(net, AdamW(0.02), every=4)
found = attribute(run, queries(net), estimator="two-step", folder=sys.argv[1], progress=progress)
np.save(sys.argv[3], found.influence)
"""


def test_kill_nine_in_the_middle_and_again(tmp_path):
    folder, out = tmp_path / "sweep", tmp_path / "scores.npy"
    path = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    for steps, status in ((6, -signal.SIGKILL), (10, -signal.SIGKILL), (0, 0)):
        command = [sys.executable, "-c", SCRIPT, str(folder), str(steps), str(out)]
        ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, timeout=300, check=False)
        assert ended.returncode == status
    np.testing.assert_array_equal(np.load(out), work())
