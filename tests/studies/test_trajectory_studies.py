"""The trajectory studies show what they are for, on the first replicate of a corner of their quick grids."""

from __future__ import annotations

import numpy as np

from simulations.engine.store import Store
from simulations.engine.study import find_study
from simulations.studies.trajectory.proxy import label_by_length

# study → the corner, by parameters
CORNERS = {
    "dead_ends": {},
    "optimizer_mismatch": {"rate": 1e-2},
    "push_blowup": {"cancelling": 2},
    "removal_convention": {},
    "retrain_top": {"learning_rate": 3e-2},
    "system_level": {"estimator": "two-step", "eps": 1e-4},
}


def test_the_rival_verdict_is_the_best_pair_of_thresholds_on_the_fitted_runs():
    length = np.array([0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 0.15, 3.0])
    truth = np.array(["trust", "trust", "ranks only", "ranks only", "do not trust", "do not trust", "trust", "trust"])
    fitted = np.arange(8) < 6
    said = label_by_length(length, truth, fitted)
    assert (said == truth).tolist() == [True] * 7 + [False]  # the last run is long: no threshold saves it
    assert said[7] == "do not trust"


def test_the_studies_find_what_they_claim(shipped):
    def load(name):
        rows = Store(shipped).load(find_study(name))
        for column, value in {**CORNERS[name], "replicate": 0}.items():
            rows = rows[rows[column] == value]
        return rows

    mismatch = load("optimizer_mismatch").set_index(["optimizer", "formula"])["spearman"]
    assert mismatch["adamw", "sgd"] < 0.8 < mismatch["adamw", "first-order"]
    np.testing.assert_allclose(mismatch["sgd", "sgd"], mismatch["sgd", "two-step"], atol=1e-9)

    blowup = load("push_blowup").pivot(index="cancellation", columns="estimator", values="relative_error")
    assert blowup["exact-push"].max() > 100
    assert blowup["frozen-push"].max() < 0.05

    removal = load("removal_convention").set_index(["batch", "truth", "estimate"])["relative_error"]
    assert removal[8, "keep", "renormalise"] > 2 * removal[8, "keep", "keep"]
    assert removal[8, "keep", "truth"] > removal[64, "keep", "truth"]

    remedy = load("retrain_top").set_index(["order", "retrained"])["relative_error"]
    assert remedy["largest", 20] < remedy["random", 20]

    ideas = load("dead_ends").set_index("idea")
    assert (ideas["extra_runs"] > 0).sum() == 5
    assert ideas["relative_error"]["20 largest retrained"] < ideas["relative_error"]["two-step"]

    system = load("system_level").set_index("variant")["relative_error"]
    assert system["float64 checkpoints every 8"] == 0
    assert 0 < system["float32 sweep"] < 1e-3
    assert not load("system_level").set_index("variant")["finite"]["float16 sweep"]


def test_the_trajectory_benchmark_prints_a_table_of_multiples():
    from simulations.benchmarks.trajectory import HEADER, measure
    from simulations.workloads.training_runs import setting
    from trak_theory.trajectory import AdamW

    rng = np.random.default_rng(0)
    problem = setting("digits", n=200, rng=rng)
    lines = measure(problem, problem.train(AdamW(1e-3), size=20, steps=8, rng=rng), 1)
    assert all(line.count("|") == HEADER.splitlines()[0].count("|") for line in lines)
    assert lines[0].startswith("| training run |")
