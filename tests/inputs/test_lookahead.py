"""Wrong inputs of look-ahead selection are refused with a message that says what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from support.networks.trajectories import OPTIMIZERS, small_network, start

from trak_theory.trajectory import AdamW, Task, lookahead, loss_query, paired_gain, select, tune_horizon

NET = small_network(n=40)
CANDIDATES = list(np.arange(24).reshape(4, 6))
VALIDATION = np.arange(24, 32)
OPTIMIZER = OPTIMIZERS["adamw"]
QUERY = loss_query(NET, VALIDATION, mean=True)


def chosen(candidates=CANDIDATES, validation=VALIDATION, keep=0.5, **how):
    return select(NET, candidates, validation, OPTIMIZER, start=start(NET), keep=keep, **how)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            {"horizon": 4},
            "horizon 4 reaches beyond the run: 4 candidate batches allow at most 3; None looks to the end",
        ),
        ({"horizon": -1}, "horizon must be an integer ≥ 0, or None for the end of the run, got -1"),
        ({"horizon": 1.5}, "horizon must be an integer ≥ 0, or None for the end of the run, got 1.5"),
        ({"keep": 0.0}, r"keep must lie in \(0, 1\], got 0.0"),
        ({"keep": 1.2}, r"keep must lie in \(0, 1\], got 1.2"),
        ({"keep": float("nan")}, r"keep must lie in \(0, 1\], got nan"),
        ({"keep": 0.05}, "candidate batch 0 has 6 samples, of which a share keep = 0.05 is none: use larger"),
        ({"validation": []}, "validation must be a non-empty list of sample indices"),
        ({"validation": [0.5]}, "validation must be a non-empty list of sample indices"),
        ({"validation": [40]}, "validation names sample 40, the objective has samples 0 … 39"),
        ({"validation": [30, 7]}, "1 validation samples are candidates too, the first is 7: .*; split them"),
        ({"candidates": [[0, 1], [2, 2]]}, "the candidate batch of step 1 holds sample 2 twice"),
        ({"candidates": []}, "a run needs at least one batch"),
        ({"candidates": [[41]]}, "batch 0 names sample 41, the objective has samples 0 … 39"),
        ({"policy": "random"}, "random selection draws samples: pass rng"),
        ({"policy": "best"}, "policy must be one of 'look-ahead', .*, got 'best'"),
        ({"estimator": "three-step"}, "estimator must be one of"),
    ],
)
def test_selection_checks_its_input(how, message):
    with pytest.raises((ValueError, TypeError), match=message):
        chosen(**how)


def test_what_a_policy_does_not_need_is_not_asked_of_it():
    assert len(chosen(policy="lowest-loss", horizon=99).batches) == 4
    assert len(chosen(policy="random", keep=1.0).batches) == 4


@pytest.mark.parametrize(
    ("horizons", "message"),
    [
        ([0, 4], "horizon 4 reaches beyond the run: 4 batches from here on allow at most 3"),
        ([-1], "a horizon must be an integer ≥ 0, got -1"),
        ([0.5], "a horizon must be an integer ≥ 0, got 0.5"),
        ([], "a look-ahead needs at least one horizon"),
    ],
)
def test_horizons_are_checked(horizons, message):
    with pytest.raises(ValueError, match=message):
        lookahead(NET, CANDIDATES, QUERY, OPTIMIZER, OPTIMIZER.start(start(NET)), horizons=horizons)


def test_a_look_ahead_reads_off_one_number():
    several = loss_query(NET, VALIDATION)
    with pytest.raises(ValueError, match="a look-ahead needs a query with one value, this one has 8: use their mean"):
        lookahead(NET, CANDIDATES, several, OPTIMIZER, OPTIMIZER.start(start(NET)), horizons=[0, 2])
    with pytest.raises(ValueError, match="holds sample 3 twice; give it once"):
        lookahead(NET, [[3, 1, 3]], QUERY, OPTIMIZER, OPTIMIZER.start(start(NET)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": 2}, "pass at least 3 tasks, got 2"),
        ({"horizons": []}, r"horizons must be non-empty and without repetitions, got \[\]"),
        ({"horizons": [0, 0]}, r"horizons must be non-empty and without repetitions, got \[0, 0\]"),
        ({"learning_rates": []}, "learning_rates must be non-empty"),
        ({"search": "bayes"}, "search must be one of 'grid', 'halving', got 'bayes'"),
        ({"horizons": [9]}, "horizon 9 reaches beyond the run"),
    ],
)
def test_tuning_checks_its_input(change, message):
    task = Task(NET, start(NET), CANDIDATES, VALIDATION, np.arange(32, 40))
    how = {"learning_rates": [0.01], "horizons": [0], "keep": 0.5, "rng": np.random.default_rng(0), **change}
    tasks = [task] * how.pop("tasks", 3)
    with pytest.raises(ValueError, match=message):
        tune_horizon(tasks, AdamW, **how)


def test_one_replicate_has_no_interval():
    with pytest.raises(ValueError, match="a paired interval needs at least 2 replicates, got 1"):
        paired_gain([1.0, np.nan], [2.0, 1.0])
