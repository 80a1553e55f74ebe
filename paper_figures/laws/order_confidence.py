"""The share of pairs that `ranked_with_confidence` promises to be in order, and what fresh projections reach."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from paper_figures.drawing.style import COLOURS, COLUMN, MARKERS, Drawing
from simulations.engine.store import Store
from simulations.engine.study import find_study
from simulations.studies.laws.order_confidence import SETTINGS

MEANS = ["promised", "expected", "proved", "reached", "worst", "reached_sd"]


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("order_confidence"))
    frame = frame[frame["method"] == "draws"]
    groups = frame.groupby("setting", sort=False)
    numbers = groups[MEANS].mean().join(groups[["kept", "fresh"]].sum())
    numbers = numbers.loc[[name for name in SETTINGS if name in numbers.index]].reset_index()
    figure = Figure(figsize=(COLUMN, 3.5), layout="constrained")
    axis = figure.subplots()
    places = np.arange(len(numbers))[::-1]
    axis.hlines(places, numbers["worst"], numbers["reached"], color="0.75", linewidth=3, label="reached: worst to mean")
    for place, (column, label) in enumerate({"promised": "promised, .99", "proved": "order known"}.items()):
        axis.plot(numbers[column], places, MARKERS[place], color=COLOURS[place], label=label)
    axis.set_yticks(places, [f"{row.setting}  {row.kept}/{row.fresh}" for row in numbers.itertuples()])
    axis.set_xlabel("pairs in true order")
    axis.set_xlim(0.5, 1.01)
    axis.grid(axis="x")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2, columnspacing=0.8)
    return Drawing(figure, numbers, _caption(frame, numbers))


def _caption(frame: pd.DataFrame, numbers: pd.DataFrame) -> str:
    answers = len(frame) // len(numbers)
    return (
        "Share of all pairs of training points that TRAK puts in the order of exact leave-one-out influence, as far as "
        "certified intervals know it. Circles: what ranked_with_confidence promises with probability .99 over the "
        "projection, by simulated projections; grey: mean and worst of fresh projections; squares: the share "
        "whose order is known at all. Beside each setting: fresh projections that reach the promise. Means over "
        f"{answers} data set{'s' if answers > 1 else ''} of n = 100 to 200 points for each setting, "
        f"{frame['fresh'].iloc[0]} projections each; digits (3 against 8) and breast cancer are real."
    )
