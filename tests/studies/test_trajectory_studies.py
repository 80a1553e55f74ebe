"""The trajectory studies show what they are for, on the first replicate of a corner of their quick grids."""

from __future__ import annotations

import numpy as np
import pandas as pd
from typer.testing import CliRunner

from simulations.__main__ import app
from simulations.engine.store import Store
from simulations.engine.study import find_study
from simulations.studies.trajectory.proxy import label_by_length
from simulations.tables import tables

# study → the corner, by parameters
CORNERS = {
    "dead_ends": {},
    "optimizer_mismatch": {},
    "push_blowup": {"cancelling": 2},
    "removal_convention": {},
    "retrain_top": {"learning_rate": 3e-2},
    "system_level": {"estimator": "two-step", "eps": 1e-8},
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

    mismatch = load("optimizer_mismatch").set_index(["optimizer", "rate", "formula"])["spearman"]
    assert mismatch["adamw", 1e-2, "sgd"] < 0.8 < mismatch["adamw", 1e-2, "first-order"]
    np.testing.assert_allclose(mismatch["sgd", 1e-3, "sgd"], mismatch["sgd", 1e-3, "two-step"], atol=1e-9)

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
    from simulations.benchmarks.trajectory.on_numpy import HEADER, measure
    from simulations.workloads.training_runs import setting
    from trak_theory.trajectory import AdamW

    rng = np.random.default_rng(0)
    problem = setting("digits", n=200, rng=rng)
    lines = measure(problem, problem.train(AdamW(1e-3), size=20, steps=8, rng=rng), 1)
    assert all(line.count("|") == HEADER.splitlines()[0].count("|") for line in lines)
    assert lines[0].startswith("| training run |")


# family, said for free, said after an audit, deserved, covered, covered after calibration; the first two left out
JUDGED = [
    ("wine_relu", "trust", "trust", "trust", 0.8, 0.9),
    ("wine_relu", "trust", "ranks only", "ranks only", 0.6, 0.9),
    ("wine_relu", "ranks only", "ranks only", "do not trust", 0.7, 0.9),
    ("wine_relu", "retrain a few to tell", "do not trust", "trust", 0.7, 0.9),
    ("wine", "do not trust", "do not trust", "do not trust", 0.9, 1.0),
    ("wine", "ranks only", "trust", "ranks only", 1.0, 1.0),
    ("digits", "trust", "trust", "ranks only", 0.2, 0.9),
    ("digits", "trust", "trust", "trust", 0.2, 0.9),
]
# estimator → Spearman of two runs of a family, relative error of both
QUALITY = {"first-order": (0.5, 0.7, 1.0), "two-step": (0.7, 0.9, 3.0), "frozen-push": (0.9, 0.8, 0.25)}


def made_up_rows():
    rows = []
    for place, (family, free, audited, true, covered, calibrated) in enumerate(JUDGED):
        own = {"family": family, "optimizer": "adamw", "learning_rate": 1e-3, "replicate": place}
        own |= {
            "steps": 20 * (1 + place % 2),
            "batch": 5,
            "defect": 0.1,
            "query_defect": 0.1,
            "audited_rank": 0.5,
            "audited_error": 0.5,
        }
        own |= {"left_out": family != "digits", "proxy_spearman": 0.9, "within_two": 0.9}
        for estimator, (*spearman, error) in QUALITY.items():
            rows.append(own | {"estimator": estimator, "spearman": spearman[place % 2], "relative_error": error})
        rows[-1] |= {"free_label": free, "audited_label": audited, "true_label": true}
        rows[-1] |= {"coverage": covered, "calibrated_coverage": calibrated}
    return pd.DataFrame(rows)


def test_the_table_of_verdicts_counts_what_was_said_against_what_was_deserved(monkeypatch):
    """Counts by hand; the limits of 1 of 2 are 1 − √.975 and √.975."""
    frozen = made_up_rows().query("estimator == 'frozen-push'")
    monkeypatch.setattr("simulations.findings.trajectory.judgements", lambda rows: frozen)
    sections = {part.split("\n")[0]: part.split("\n") for part in tables("proxy", made_up_rows()).split("### ")[1:]}

    def line(section, name):
        (found,) = [line for line in sections[section] if line.startswith(f"| {name} |")]
        return found.strip("| ").split(" | ")[1:]

    free = line("Free verdict, families never calibrated on", "wine_relu")
    assert free[:3] == ["4", "2 / 1 / 1", "1 of 2: 0.500 (0.013 to 0.987)"]
    assert [cell.split(":")[0] for cell in free[3:]] == ["2 of 4", "1 of 4", "1 of 4"]  # optimistic, abstains, right
    assert line("Free verdict, families never calibrated on", "wine")[2] == "none"
    assert line("Free verdict, families never calibrated on", "**ReLU, leaky ReLU**") == free
    whole = line("Free verdict, families never calibrated on", "**all**")
    assert [cell.split(":")[0] for cell in whole] == ["6", "2 / 2 / 2", "1 of 2", "2 of 6", "1 of 6", "3 of 6"]

    audited = "Verdict with 16 retrainings, families never calibrated on"
    assert [cell.split(":")[0] for cell in line(audited, "wine_relu")] == ["4", "1 of 1", "1 of 4", "2 of 4"]
    assert line("Verdict with 16 retrainings, calibrated families", "digits")[1].startswith("1 of 2:")
    assert line("Free verdict, calibrated families", "**all others**")[3].startswith("1 of 2:")

    half = 3.18245 * np.std([0.8, 0.6, 0.7, 0.7], ddof=1) / 2  # Student's quantile with three degrees of freedom
    bound = line("90 % bound, families never calibrated on", "wine_relu")
    assert bound[1:3] == [f"0.700 ({0.7 - half:.3f} to {0.7 + half:.3f})", "FAILS"]
    assert bound[3:] == ["0.900 (0.900 to 0.900)", "holds"]

    short = line("Free verdict and bound by length, families never calibrated on", "adamw, 20")
    assert [cell.split(":")[0] for cell in short[:3]] == ["3", "1 of 1", "1 of 3"]
    assert short[3].startswith("0.800 (")
    wrong = [line for line in sections["Runs called trust that do not deserve it, all families"] if "adamw" in line]
    assert [line.split(" | ")[0].strip("| ") for line in wrong] == ["wine_relu", "wine", "digits"]

    best = line("first-order / two-step / frozen-push, AdamW, families never calibrated on", "wine")
    assert best[1] == "0.600 / 0.800 / 0.850"
    assert best[2].startswith("0.050 (")
    assert best[3:] == ["0.50 / 0.70 / 0.80", "0.100", "1.00 / 3.00 / 0.25", "1 / 3 / 0.25"]


def test_the_table_command_reads_the_shipped_rows_and_names_what_is_missing(shipped, tmp_path):
    command = CliRunner()
    printed = command.invoke(app, ["table", "proxy", "--size", "quick", "--out", str(shipped)])
    assert printed.exit_code == 0
    assert all(f"| {family} | 1 | " in printed.output for family in ("wine", "gpt2"))
    missing = command.invoke(app, ["table", "proxy", "--out", str(tmp_path)])
    assert missing.exit_code == 1
    assert "585 cells are missing" in missing.output
    assert command.invoke(app, ["table", "ladder"]).exit_code == 2
