"""Statements about look-ahead selection that hold on average: z-scores at fixed sample sizes."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from trak_theory.trajectory import MLP, AdamW, HorizonMap, Task, paired_gain


def share_is(share, expected, draws, z=4.0):
    assert abs(share - expected) < z * np.sqrt(expected * (1 - expected) / draws), share


def test_paired_intervals_cover_and_shared_noise_cancels():
    rng, draws = np.random.default_rng(0), 4000
    shared, own = rng.standard_normal((draws, 6)), 0.1 * rng.standard_normal((draws, 2, 6))
    gains = [paired_gain(a + common - 0.05, b + common) for common, (a, b) in zip(shared, own, strict=True)]
    share_is(np.mean([gain.low <= 0.05 <= gain.high for gain in gains]), 0.95, draws)
    assert np.mean([gain.se for gain in gains]) < 0.1
    biased = np.mean([gain.low <= 0.15 <= gain.high for gain in gains])  # a control: a wrong mean is not covered
    assert biased < 0.85


def test_on_noise_a_horizon_is_called_different_at_most_as_often_as_the_level_says():
    rng, draws = np.random.default_rng(1), 600
    wrong, leaning, optimistic = 0, [], []
    for losses in rng.standard_normal((draws, 4, 8)):
        random, longer, multiples = np.zeros((1, 8)), np.zeros((1, 4, 8)), np.array([[1.0, 2.0, 3.0, 4.0]])
        found = HorizonMap((1.0,), (0, 1, 2, 3), losses[None], random, longer, multiples, "SGD")
        wrong += any(not row["gain_over_best"].startswith(("best", "no difference")) for row in found.table())
        leaning.append(found.chosen_gain(1.0).mean)
        optimistic.append(found.gain(1.0, found.best(1.0)).mean)
    assert wrong / draws < 0.05 + 4 * np.sqrt(0.05 * 0.95 / draws)
    assert abs(np.mean(leaning)) < 4 * np.std(leaning) / np.sqrt(draws)  # judged on runs left out: no optimism
    assert np.mean(optimistic) > 20 * np.std(optimistic) / np.sqrt(draws)  # judged on the runs it was made on: some


def digits_task(seed, steps=60):
    """1000 digits, 30 % with a wrong label, and clean ones to look ahead to and to judge by."""
    features, labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    candidates, validation, judge = np.split(rng.permutation(len(labels)), [1000, 1200])
    wrong = candidates[:300]
    labels[wrong] = (labels[wrong] + rng.integers(1, 10, 300)) % 10
    net = MLP(features / 16, labels, hidden=(16,), classes=10)
    stream = np.concatenate([rng.permutation(candidates) for _ in range(3)])[: steps * 40].reshape(steps, 40)
    return Task(net, net.start(rng), list(stream), validation, judge), wrong


def test_look_ahead_on_digits_beats_random_leaves_wrong_labels_out_and_the_opposite_choice_loses():
    gains: dict[str, list[float]] = {"K = 0": [], "largest loss": [], "lowest loss": []}
    flawed = []
    for seed in range(6):
        task, wrong = digits_task(seed)
        rng = np.random.default_rng(seed)
        random = task.judged(task.select(AdamW(5e-3), keep=0.5, policy="random", rng=rng).final)
        ahead = task.select(AdamW(5e-3), keep=0.5)
        gains["K = 0"].append(random - task.judged(ahead.final))
        flawed.append(np.isin(np.concatenate(ahead.batches), wrong).mean())
        for name in ("largest loss", "lowest loss"):
            other = task.select(AdamW(5e-3), keep=0.5, policy=name.replace(" ", "-"))
            gains[name].append(random - task.judged(other.final))
    z = {name: np.mean(own) / (np.std(own, ddof=1) / np.sqrt(len(own))) for name, own in gains.items()}
    assert z["K = 0"] > 5, z
    assert z["largest loss"] < -5, z
    assert z["lowest loss"] < -5, z
    assert np.mean(flawed) < 0.15
