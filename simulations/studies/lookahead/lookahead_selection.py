"""Gain of data selection: every policy against random selection, at equal steps and at equal compute."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.workloads.selection_setting import BATCH, KEEP, Setting
from simulations.workloads.selection_tasks import setting
from trak_theory.trajectory import AdamW, Optimizer, Selection, Task, select

DECAY = 0.01
STEPS = {"digits_wrong_labels": 100, "digits_domains": 100, "mnist_wrong_labels": 100, "text_domains": 40}
POLICIES: dict[str, dict[str, Any]] = {
    "random": {"policy": "random"},
    "all candidates": {"keep": 1.0},
    "SGD geometry, K = 0": {"estimator": "sgd"},
    "K = 0": {},
    "K = 1": {"horizon": 1},
    "K = 4": {"horizon": 4},
    "K = 16": {"horizon": 16},
    "K = 0, two-step": {"estimator": "two-step"},
    "to the end": {"horizon": None},
    "offline": {"policy": "offline"},
    "largest loss": {"policy": "largest-loss"},
    "lowest loss": {"policy": "lowest-loss"},
    "loss filter, share estimated": {"policy": "loss-filter"},
}
KNOWN = "loss filter, share known"  # told the share of flawed candidates
DEAR = {"text_domains": {"K = 1", "K = 16", "K = 0, two-step", "to the end"}}  # policies left out
# Random selection is also given the compute of these policies, and these multiples of a plain run's.
MATCHED = ("K = 0", "K = 4", "K = 16", "offline", KNOWN)
MULTIPLES = (2, 5, 10, 20, 50)


def run(params: Params, rng: Generator) -> Rows:
    """One training run for each policy, all from one start on one stream of candidates."""
    name = str(params["setting"])
    problem, optimizer = setting(name, rng), AdamW(float(params["learning_rate"]), weight_decay=DECAY)
    task = problem.task(STEPS[name], rng)
    known = float(problem.flawed[problem.candidates].mean())
    policies = POLICIES | {KNOWN: {"policy": "loss-filter", "wrong": known}}
    rows: Rows = []
    for policy, how in policies.items():
        if policy not in DEAR.get(name, ()):
            chosen = task.select(optimizer, **{"keep": KEEP, "rng": rng, **how})
            rows.append({"policy": policy, **_row(problem, chosen)})
    multiples = {row["policy"]: row["multiple"] for row in rows if row["policy"] in MATCHED}
    multiples |= {f"{multiple}×": float(multiple) for multiple in MULTIPLES}
    rows += _more_steps(problem, task, optimizer, multiples, rng)
    rows.append({"policy": "random, validation set added", **_with_validation(problem, optimizer, STEPS[name], rng)})
    shared = {"p": problem.objective.p, "steps": STEPS[name], "candidates": len(problem.candidates)}
    return [{**row, **shared} for row in rows]


def _row(problem: Setting, chosen: Selection) -> dict[str, Any]:
    flawed = float(problem.flawed[np.concatenate(chosen.batches)].mean())
    multiple = chosen.cost / (len(chosen.batches) * round(KEEP * BATCH))  # of training on as many random samples
    return {"multiple": multiple, "flawed": flawed, **problem.test_row(chosen.final)}


def _more_steps(
    problem: Setting, task: Task, optimizer: Optimizer, multiples: dict[str, float], rng: Generator
) -> Rows:
    """Random selection that trains `multiple` times as many steps: at the end, and at its best validation loss."""
    rows: Rows = []
    found = task.longer(optimizer, list(multiples.values()), keep=KEEP, rng=rng)
    for (name, multiple), (last, stopped) in zip(multiples.items(), found, strict=True):
        shared = {"compute_of": name, "multiple": multiple}
        rows.append({"policy": "random, more steps", **shared, **problem.test_row(last)})
        rows.append({"policy": "random, more steps, stopped", **shared, **problem.test_row(stopped)})
    return rows


def _with_validation(problem: Setting, optimizer: Optimizer, steps: int, rng: Generator) -> dict[str, Any]:
    """Random selection that may train on the validation set as well: the plainest use of clean data."""
    everything = np.concatenate([problem.candidates, problem.validation])
    candidates = [rng.choice(everything, BATCH, replace=False) for _ in range(steps)]
    how: dict[str, Any] = {"start": problem.start, "keep": KEEP, "policy": "random", "rng": rng}
    return _row(problem, select(problem.objective, candidates, problem.judge, optimizer, **how))


RATES = (3e-4, 1e-3, 3e-3, 1e-2)

STUDY = Study(
    name="lookahead_selection",
    summary="What selecting by K-step look-ahead gains over random selection, in test loss and accuracy.",
    run=run,
    quick=grid(setting=["digits_wrong_labels"], learning_rate=[3e-3], replicate=range(2)),
    full=[
        *grid(setting=["digits_wrong_labels", "digits_domains"], learning_rate=RATES, replicate=range(8)),
        *grid(setting=["mnist_wrong_labels"], learning_rate=RATES[1:], replicate=range(5)),
        *grid(setting=["text_domains"], learning_rate=[1e-3, 3e-3], replicate=range(5)),
    ],
    seconds=lambda params: {"text_domains": 300, "mnist_wrong_labels": 40}.get(str(params["setting"]), 15),
)
