"""Scores of some samples are those of the whole sweep; two stages find the largest, and say how many they miss."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from support.networks.trajectories import OPTIMIZERS, digits_run, queries, small_network, small_run, start

from trak_theory.trajectory import AdamW, attribute, attribute_samples, attribute_top, train
from trak_theory.trajectory.largest import two_stages
from trak_theory.trajectory.proxies import scaled_size
from trak_theory.trajectory.sweep import reverse
from trak_theory.trajectory.sweep.push import Estimator

NET = small_network()
SOME = np.array([17, 3, 4, 11])


def same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-13 * np.abs(expected).max())


@pytest.mark.parametrize("removal", ["keep", "renormalise"])
@pytest.mark.parametrize("estimator", get_args(Estimator))
@pytest.mark.parametrize("name", ["sgd nesterov", "adamw clipped", "adamw amsgrad"])
def test_the_rows_of_some_samples_are_those_of_the_whole(name, estimator, removal):
    run, settings = small_run(NET, OPTIMIZERS[name]), {"estimator": estimator, "removal": removal}
    whole = attribute(run, queries(NET), **settings).influence
    found = attribute_samples(run, queries(NET), SOME, **settings)
    same(found, whole[SOME])
    assert not np.allclose(found, whole[SOME + 1], rtol=0.1)


def test_only_the_gradients_of_the_samples_asked_for_are_formed(monkeypatch):
    run, asked = small_run(NET, AdamW(0.02)), []
    original = type(NET).sample_gradients
    monkeypatch.setattr(
        type(NET), "sample_gradients", lambda net, theta, batch: asked.extend(batch) or original(net, theta, batch)
    )
    attribute_samples(run, queries(NET), SOME)
    assert set(asked) == set(SOME)
    attribute(run, queries(NET))
    assert set(asked) == set(range(NET.n))


def test_samples_that_come_twice_in_a_batch_weigh_twice(monkeypatch):
    batches = [np.array([3, 3, 4, 5]), np.array([5, 6, 6, 6]), np.array([4, 17, 3, 3])]
    run = train(NET, start(NET), batches, AdamW(0.02))
    monkeypatch.setattr(reverse, "CHUNK", 8 * 8 * NET.p)  # two samples at once
    same(attribute_samples(run, queries(NET), SOME), attribute(run, queries(NET)).influence[SOME])


def test_samples_of_a_torch_model():
    torch = pytest.importorskip("torch", reason="torch is an optional extra")
    from support.networks.torch_problems import batches, loop, mlp_objective

    objective = mlp_objective()
    run = loop(objective, torch.optim.AdamW(objective.model.module.parameters(), lr=1e-2), batches())
    columns = np.random.default_rng(0).standard_normal((objective.p, 3))
    for estimator in ("first-order", "frozen-push"):
        whole = attribute(run, columns, estimator=estimator).influence
        same(attribute_samples(run, columns, SOME, estimator=estimator), whole[SOME])


@pytest.mark.parametrize(
    ("samples", "message"),
    [([], "non-empty list"), ([0.5], "non-empty list"), ([24], "must be in 0 … 23"), ([[1]], "non-empty list")],
)
def test_samples_that_do_not_exist_are_refused(samples, message):
    with pytest.raises(ValueError, match=message):
        attribute_samples(small_run(NET, AdamW(0.02)), queries(NET), samples)


@pytest.mark.parametrize(("m", "candidates"), [(0, 4), (5, 4), (3, 25)])
def test_more_than_there_are_is_refused(m, candidates):
    with pytest.raises(ValueError, match=r"candidates must be in|m must be"):
        attribute_top(small_run(NET, AdamW(0.02)), queries(NET), m, candidates=candidates, rng=np.random.default_rng(0))


def sizes(run, query, influence):
    first = attribute(run, query, estimator="first-order").influence
    return scaled_size(influence, np.sqrt(np.mean(first**2, axis=0)))


def test_with_every_sample_as_a_candidate_it_is_the_whole():
    run, query = small_run(NET, AdamW(0.02)), queries(NET)
    found = attribute_top(run, query, 5, candidates=NET.n, rng=np.random.default_rng(0))
    whole = attribute(run, query).influence
    same(found.influence, whole)
    np.testing.assert_array_equal(found.top, np.argsort(-sizes(run, query, whole), kind="stable")[:5])
    assert found.recall == 1


@pytest.mark.slow
def test_the_share_that_is_found_is_what_was_said(monkeypatch):
    """Over 24 draws on three runs; first order's own largest, the negative control, hold less."""
    monkeypatch.setattr(two_stages, "DRAWN", 40)
    said, held, by_first_order = [], [], []
    for seed in range(3):
        run, _ = digits_run(seed, AdamW(1e-3), n=400)
        query = queries(run.objective, 8)
        size = sizes(run, query, attribute(run, query).influence)
        first = sizes(run, query, attribute(run, query, estimator="first-order").influence)
        largest = np.argsort(-size)[:40]
        by_first_order.append(np.isin(np.argsort(-first)[:40], largest).mean())
        for draw in range(8):
            found = attribute_top(run, query, 40, candidates=80, rng=np.random.default_rng([seed, draw]))
            said.append(found.recall)
            held.append(40 / np.sum(size >= size[found.top[-1]] * (1 - 1e-9)))
    assert abs(np.mean(said) - np.mean(held)) < 3 * np.std(np.subtract(said, held)) / np.sqrt(len(said)) + 0.05
    assert np.mean(held) > np.mean(by_first_order) + 0.1
