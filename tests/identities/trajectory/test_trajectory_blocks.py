"""Working in blocks of coordinates, samples and queries changes the memory of a sweep, not what it gives."""

from __future__ import annotations

import numpy as np
import pytest
from support.networks.trajectories import OPTIMIZERS, queries, small_network, small_run

from trak_theory.trajectory import attribute, loss_query, retrain_without
from trak_theory.trajectory.convention import Convention
from trak_theory.trajectory.sweep import blocks
from trak_theory.trajectory.sweep import reverse as sweep
from trak_theory.trajectory.sweep.reverse import Settings, sweep_from

NET = small_network()
NAMES = ("sgd clipped", "sgd groups", "adam amsgrad", "adamw groups", "adamw clipped", "adamw amsgrad")
ESTIMATORS = ("two-step", "frozen-push", "exact-push", "hybrid", "first-order", "sgd")
READOUTS = {5: [6, 9], 3: [4, 6, 12], 0: [1, 12]}


def found(name, estimator):
    run = small_run(NET, OPTIMIZERS[name], every=4)
    yield run.final
    yield attribute(run, queries(NET), estimator=estimator).influence
    yield attribute(run, queries(NET), estimator=estimator, removal="renormalise", horizon=3).influence
    query = loss_query(NET, np.arange(3))
    for contribution in sweep_from(run, query, Settings(estimator), Convention(), READOUTS):
        yield contribution.influence


@pytest.mark.parametrize("vectors", [0, 9])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("name", NAMES)
def test_blocks_do_not_change_a_sweep(monkeypatch, name, estimator, vectors):
    whole = list(found(name, estimator))
    monkeypatch.setattr(blocks, "SMALL", 16)
    monkeypatch.setattr(sweep, "CHUNK", vectors * 8 * NET.p)
    for expected, actual in zip(whole, found(name, estimator), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize("name", NAMES)
def test_blocks_do_not_change_a_retraining(monkeypatch, name):
    run = small_run(NET, OPTIMIZERS[name])
    whole = retrain_without(run, np.arange(4)[:, None]).final
    monkeypatch.setattr(blocks, "SMALL", 16)
    np.testing.assert_allclose(retrain_without(run, np.arange(4)[:, None]).final, whole, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("rows", "p"), [(0, 5), (1, 5), (3, 100_000), (100_000, 7), (8, 10**7)])
def test_blocks_cover_every_coordinate_once_with_small_temporaries(rows, p):
    pieces = blocks.blocks(rows, p)
    covered = [range(p)[block] for block in pieces]
    edges = [0, *(part.stop for part in covered)]
    assert [part.start for part in covered] == edges[:-1]
    assert edges[-1] == p
    assert rows * (max(map(len, covered)) - 1) <= max(blocks.SMALL, p // blocks.SHARE)
