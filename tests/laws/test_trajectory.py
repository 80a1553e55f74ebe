"""How good the estimators are on a network on digits, against retraining: the gates that any change must keep.

The `error_levels` and `optimizer_mismatch` studies measure the same with more seeds; here are two, fixed.
"""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from functools import cache
from math import isqrt
from time import process_time

import numpy as np
import pytest
from support.networks.trajectories import digits_run, epochs, queries, small_network, start

from trak_theory.trajectory import (
    SGD,
    AdamW,
    RunSizes,
    attribute,
    retrain_without,
    sweep_cost,
    sweep_memory,
    train,
)
from trak_theory.trajectory.states.training_step import advance
from trak_theory.trajectory.sweep import blocks
from trak_theory.trajectory.sweep import reverse as sweep

SEEDS = (0, 1)
SETTINGS = {
    "plain": ({}, {}, 20),
    "renormalise": ({}, {"removal": "renormalise"}, 20),
    "each occurrence": ({}, {"occurrences": "each"}, 20),
    "renormalise, each occurrence": ({}, {"removal": "renormalise", "occurrences": "each"}, 20),
    "short memory": ({"betas": (0.9, 0.95)}, {}, 20),
    "clipped": ({"clip_norm": 0.5}, {}, 20),
    "batches of five": ({}, {}, 5),
}


@cache
def fidelity(setting, rate, seed):
    """Estimator → agreement with retraining."""
    optimizer, convention, size = SETTINGS[setting]
    run, query = digits_run(seed, AdamW(rate, **optimizer), size=size)
    removed = np.arange(200 if convention.get("occurrences") != "each" else 60)
    truth = retrain_without(run, removed[:, None], **convention)
    return {
        estimator: truth.agreement(attribute(run, query, estimator=estimator, **convention))
        for estimator in ("first-order", "two-step", "frozen-push")
    }


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(("rate", "mean", "worst"), [(1e-3, 0.995, 0.99), (1e-2, 0.97, 0.95)])
def test_two_steps_rank_samples_as_retraining_does(setting, rate, mean, worst):
    for estimator in ("two-step", "frozen-push"):
        ranks = [fidelity(setting, rate, seed)[estimator].spearman for seed in SEEDS]
        assert np.mean(ranks) >= mean
        assert np.min(ranks) >= worst


def exceeds_first_order(setting, rate, seed, estimator):
    found = fidelity(setting, rate, seed)
    return found[estimator].relative_error > found["first-order"].relative_error + 0.05


RUNS = [(setting, rate, seed) for setting in SETTINGS for rate in (1e-3, 1e-2) for seed in SEEDS]


@pytest.mark.slow
def test_following_a_young_v_never_costs_accuracy():
    """Two steps are not always enough: one sample of one run blows up under three settings, and ten steps heal it."""
    assert not any(exceeds_first_order(*run, "frozen-push") for run in RUNS)
    worse = {run for run in RUNS if exceeds_first_order(*run, "two-step")}
    assert worse == {(setting, 1e-2, 1) for setting in ("clipped", "each occurrence", "renormalise, each occurrence")}
    assert all(fidelity(*run)["frozen-push"].relative_error < 0.25 for run in worse)


@pytest.mark.slow
def test_the_proxy_of_first_order_ranks_its_errors_and_knows_their_size():
    ranks, within = [], []
    for seed in SEEDS:
        for rate in (1e-3, 3e-3):
            run, query = digits_run(seed, AdamW(rate))
            truth = retrain_without(run, np.arange(200)[:, None])
            first = attribute(run, query, estimator="first-order")
            error = np.abs(truth.influence(query) - first.influence)[:, 0]
            proxy = first.proxy[:, 0]
            ranks.append(np.corrcoef(np.argsort(np.argsort(error)), np.argsort(np.argsort(proxy)))[0, 1])
            within.append(np.mean(np.abs(np.log2(proxy / error)) < 1))
    assert np.mean(ranks) >= 0.9
    assert np.mean(within) >= 0.8


WIDE = small_network(n=24, width=1000, hidden=(128,))


def small_beside_p(monkeypatch, chunk):
    """CHUNK, in vectors of p, and temporaries as small beside p as they are for networks of 10⁷ parameters."""
    monkeypatch.setattr(sweep, "CHUNK", chunk * 8 * WIDE.p)
    monkeypatch.setattr(blocks, "SMALL", WIDE.p // blocks.SHARE)


def peak_of(work):
    """Bytes at the peak of work(), and what it returns."""
    tracemalloc.start()
    try:
        result = work()
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("estimator", "frozen"), [("first-order", 0), ("two-step", 1)])
@pytest.mark.parametrize("q", [1, 2, 8])
def test_a_run_and_its_sweep_hold_twice_root_t_states_the_adjoint_and_one_chunk(monkeypatch, q, estimator, frozen):
    """In vectors of p: 2⌈√T⌉ states of 3, 3 + k for each query (k frozen steps), a batch of per-sample gradients."""
    steps, size = 9, 8
    root = isqrt(steps - 1) + 1
    small_beside_p(monkeypatch, size)
    theta, columns, batches = start(WIDE), queries(WIDE, q), epochs(WIDE, size, 3)

    def peak(every):
        run = lambda: train(WIDE, theta, batches, AdamW(1e-3), every=every)  # noqa: E731
        return peak_of(lambda: attribute(run(), columns, estimator=estimator))[0] / (8 * WIDE.p)

    bound = 3 * 2 * root + (3 + frozen) * q + size
    assert bound - size < peak(root) < bound
    assert peak(1) > bound


SWEPT = [  # optimiser, every, on disk, queries, estimator
    (AdamW(1e-3), 1, False, 1, "first-order"),
    (AdamW(1e-3), 4, False, 8, "two-step"),
    (AdamW(1e-3), 4, True, 8, "first-order"),
    (AdamW(1e-3), 4, True, 1, "two-step"),
    (AdamW(1e-3), 4, False, 1, "frozen-push"),
    (AdamW(1e-3), 1, True, 8, "frozen-push"),
    (SGD(1e-2), 4, False, 1, "two-step"),
    (SGD(1e-2), 4, True, 8, "first-order"),
]


@pytest.mark.parametrize(("optimizer", "every", "on_disk", "q", "estimator"), SWEPT)
@pytest.mark.parametrize("chunk", [8, 40])
def test_the_memory_of_a_sweep_is_what_was_said(monkeypatch, tmp_path, optimizer, every, on_disk, q, estimator, chunk):
    small_beside_p(monkeypatch, chunk)
    theta, columns, batches = start(WIDE), queries(WIDE, q), epochs(WIDE, 8, 5)[:15]

    def work():
        run = train(WIDE, theta, batches, optimizer, every=every, directory=tmp_path if on_disk else None)
        attribute(run, columns, estimator=estimator)
        return run

    peak, run = peak_of(work)
    sizes = RunSizes.of(run)
    assert sizes == RunSizes(WIDE.p, 15, 8, run.optimizer.slots, every, on_disk, 8, False)
    assert 1 / 1.2 < sweep_memory(sizes, q, estimator=estimator) / peak < 1.2
    assert sweep_memory(sizes, q + 8, estimator=estimator) > 1.2 * peak
    assert sweep_memory(replace(sizes, slots=sizes.slots + 2), q, estimator=estimator) > 1.2 * peak


@pytest.mark.slow
@pytest.mark.parametrize(("estimator", "q"), [("first-order", 1), ("two-step", 1), ("frozen-push", 8)])
def test_the_time_of_a_sweep_is_what_was_said(estimator, q):
    """Processor time, so that what else the machine does disturbs little; 128 queries are not as cheap."""
    run = digits_run(0, AdamW(1e-3), hidden=(100,))[0]
    run = train(run.objective, run.state(0)[0], run.batches, run.optimizer, every=8)

    def plain():
        state = run.state(0)
        for t, batch in enumerate(run.batches):
            state = advance(run.objective, batch, run.optimizer, t, state)

    def seconds(work):
        begun = process_time()
        work()
        return process_time() - begun

    measured = seconds(lambda: attribute(run, queries(run.objective, q), estimator=estimator)) / seconds(plain)
    said = sweep_cost(run, queries(run.objective, q), estimator=estimator).training_runs
    assert 0.5 < said / measured < 2
    assert sweep_cost(run, queries(run.objective, 128), estimator=estimator).training_runs > 2 * measured


def test_a_run_of_one_step_cannot_be_timed():
    run = train(WIDE, start(WIDE), epochs(WIDE, 8, 1)[:1], SGD(1e-2))
    with pytest.raises(ValueError, match="a run of one step cannot be timed"):
        sweep_cost(run, queries(WIDE, 1))
