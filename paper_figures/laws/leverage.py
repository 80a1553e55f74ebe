"""Rank agreement where points differ in leverage, and the rule that holds for equal leverage only."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.drawing.curves import data_sets, shared_legend, simulated, summary
from paper_figures.drawing.style import COLOURS, PAGE, Drawing
from simulations.engine.store import Store
from simulations.engine.study import find_study

PANELS = (
    ("trak", "kendall", "Kendall's τ, TRAK"),
    ("influence", "kendall", "Kendall's τ, influence function"),
    ("trak", "top_overlap", "top tenth found, TRAK"),
)
EQUAL = "equal_leverage_kendall"
CAPTION = (
    "Rows c_i g_i of unequal scale, g ~ N(0, I_p) and log c normal with E c² = 1: agreement with exact "
    "leave-one-out influence, predicted with nothing fitted (lines) and simulated (points); dimensionless. Dotted: "
    "the rule (2/π) asin Pearson, exact for equal leverage, which fails as leverages spread. "
    "n = {n:,}, p = {p}, k = {k}, ridge λ = {ridge:g} (sum convention), "
    "signal {signal:g}, one projection, μ = 0. Means over {queries} queries; "
)


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("leverage"))
    frame = frame[frame["n"] == frame["n"].max()]
    numbers = _numbers(frame)
    figure = Figure(figsize=(PAGE, 2.4), layout="constrained")
    for axis, (score, measure, title) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        _panel(axis, numbers[numbers["score"] == score], measure)
        axis.set_title(title)
        axis.set_xlabel("standard deviation of log c")
    shared_legend(figure, figure.axes[0], 3)
    return Drawing(figure, numbers, CAPTION.format_map(frame.iloc[0]) + data_sets(numbers))


def _numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """Law, equal-leverage rule and data, mean and standard error over data sets."""
    order = ["score", "loss", "part", "spread"]
    return summary(frame, order, ["kendall", "top_overlap", EQUAL]).sort_values(order, ignore_index=True)


def _panel(axis: Axes, numbers: pd.DataFrame, measure: str) -> None:
    for place, (loss, series) in enumerate(numbers.groupby("loss")):
        shown = series[series["measure"] == measure]
        data, law = (shown[shown["part"] == part] for part in ("data", "law"))
        axis.plot(law["spread"], law["mean"], color=COLOURS[place], label=f"law, {loss}")
        if measure == "kendall":
            equal = series[series["measure"] == EQUAL]
            axis.plot(
                equal["spread"],
                equal["mean"],
                color=COLOURS[place],
                linestyle=":",
                label=f"(2/π) asin Pearson, {loss}",
            )
        simulated(axis, data, x="spread", place=place, label=f"simulated, {loss}")
    axis.grid(axis="y")
