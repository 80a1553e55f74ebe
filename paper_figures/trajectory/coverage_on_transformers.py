"""Coverage of the 90 % bound on transformers' runs, with the relative error that it has to cover."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.drawing.curves import shared_legend, summary
from paper_figures.drawing.style import COLOURS, GUIDE, MARKERS, PAGE, Drawing
from paper_figures.drawing.words import counted
from simulations.engine.store import Store
from simulations.engine.study import find_study
from simulations.studies.trajectory.proxy import CALIBRATION, LANGUAGE_SCALE, judgements

FAMILIES = {"gpt2": "GPT-2", "gpt2_scratch": "GPT-2 from scratch", "llama": "Llama"}
BOUNDS = {"coverage": "free", "calibrated_coverage": f"calibrated on {CALIBRATION} retrainings"}
PROMISED = 0.9


def draw(results: Path) -> Drawing:
    runs = _runs(Store(results).load(find_study("proxy")))
    numbers = summary(runs, ["row", "family", "learning_rate"], [*BOUNDS, "relative_error"])
    rows = list(dict.fromkeys(numbers["row"]))
    figure = Figure(figsize=(PAGE, 1.4 + 0.26 * len(rows)), layout="constrained")
    covered, error = figure.subplots(1, 2, sharey=True, width_ratios=[1.3, 1])
    covered.axvline(PROMISED, color=GUIDE, zorder=0)
    for place, (measure, label) in enumerate(BOUNDS.items()):
        _measure(covered, numbers, rows, measure, place, label)
    _measure(error, numbers, rows, "relative_error", len(BOUNDS), "")
    covered.set(xlabel="share of rows covered by the 90 % bound", xlim=(min(0.5, runs[list(BOUNDS)].min().min()), 1.02))
    errors = numbers[_is_error(numbers)]
    error.set(
        xlabel="relative error of frozen push", xlim=(0, 1.05 * errors["mean"].add(errors["se"], fill_value=0).max())
    )
    covered.set_yticks(range(len(rows)), rows)
    covered.set_ylim(len(rows) - 0.5, -0.5)
    shared_legend(figure, covered)
    return Drawing(figure, numbers, _caption(runs, numbers))


def _runs(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a run of a transformer, sorted by family and rate, with the row of the figure that it is in."""
    judged = judgements(frame)
    runs = judged[judged["family"].isin(list(FAMILIES))]
    runs = runs.assign(learning_rate=LANGUAGE_SCALE * runs["learning_rate"])
    runs = runs.assign(of=runs["family"].map(list(FAMILIES).index)).sort_values(["of", "learning_rate", "replicate"])
    names = [f"{FAMILIES[run.family]}, rate {run.learning_rate:g}" for run in runs.itertuples()]
    return runs.assign(row=names).reset_index(drop=True)


def _is_error(numbers: pd.DataFrame) -> pd.Series:
    return numbers["measure"] == "relative_error"


def _measure(axis: Axes, numbers: pd.DataFrame, rows: list[str], measure: str, place: int, label: str) -> None:
    own = numbers[numbers["measure"] == measure]
    shift = 0.2 * (place - 0.5) if measure in BOUNDS else 0.0
    height = np.array([rows.index(row) for row in own["row"]]) + shift
    error = own["se"].fillna(0.0)
    axis.errorbar(own["mean"], height, xerr=error, fmt=MARKERS[place], color=COLOURS[place], label=label)
    axis.grid(axis="y")


def _caption(runs: pd.DataFrame, numbers: pd.DataFrame) -> str:
    first, there = runs.iloc[0], set(runs["family"])
    absent = [name for family, name in FAMILIES.items() if family not in there]
    bars = "mean ± s.e. over" if numbers["replicates"].min() > 1 else "one run has no bar;"
    lacking = f" Rows of {' and '.join(absent)} are part of the full size alone." if absent else ""
    sizes = "; ".join(
        f"{FAMILIES[str(family)]}: p = {own['p'].max():,}" for family, own in runs.groupby("family", sort=False)
    )
    return (
        "Does the 90 % bound of a trajectory attribution hold on transformers? Left: share of the sequences whose "
        "error the bound covers, free and calibrated on a few retrainings of the run itself (those left out). Right: "
        f"relative error of the estimate, frozen push, against retraining. AdamW, {first['steps']} steps of "
        f"{first['batch']} of n = {first['n']} sequences, float64; {sizes}; {bars} "
        f"{counted(numbers['replicates'], 'runs')} in a row.{lacking}"
    )
