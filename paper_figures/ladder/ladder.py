"""The budget of errors from exact leave-one-out influence down to TRAK, data set by data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray as Array

from paper_figures.drawing.curves import shared_legend
from paper_figures.drawing.style import COLOURS, MARKERS, PAGE, Drawing, mean_and_error
from paper_figures.drawing.words import counted
from simulations.engine.store import Store
from simulations.engine.study import find_study

COMPRESSION = 0.5
MEASURES = {"relative_error": "relative error", "kendall": "Kendall's τ"}
SMALLEST_ERROR = 1e-3  # the left edge of the error axis; an arrow stands for what lies beyond
SCALE_FREE = "as released"  # its scores have an unknown common scale: ranks only
LABELS = {
    "randhie": "RAND HIE\nPoisson",
    "breast_cancer": "breast cancer\nlogistic",
    "digits_3_vs_8": "digits 3 vs 8\nlogistic",
    "diabetes": "diabetes\nsquared",
    "gaussian": "Gaussian, p = n/2\nlogistic",
}
SERIES = {"exact": "against the exact influence", "above": "against the rung above it"}


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("ladder"))
    frame = frame[frame["k_over_p"] == COMPRESSION]
    numbers = _numbers(frame)
    datasets, rungs = list(dict.fromkeys(numbers["data"])), list(dict.fromkeys(frame["rung"]))
    figure = Figure(figsize=(PAGE, 4.8), layout="constrained")
    grid = figure.subplots(len(MEASURES), len(datasets), sharey=True, sharex="row", squeeze=False)
    for axes, (measure, label) in zip(grid, MEASURES.items(), strict=True):
        shown = numbers[numbers["measure"] == measure]
        for axis, data in zip(axes, datasets, strict=True):
            _panel(axis, shown[shown["data"] == data], rungs)
        (_error_axis if measure == "relative_error" else _rank_axis)(axes, shown["mean"], rungs)
        axes[len(axes) // 2].set_xlabel(label)
    for axis, data in zip(grid[0], datasets, strict=True):
        sizes = numbers[numbers["data"] == data].iloc[0]
        axis.set_title(f"{LABELS[data]}\nn = {sizes['n']:,}\np = {sizes['p']}, k = {sizes['k']}")
    shared_legend(figure, grid[0][0], 2)
    return Drawing(figure, numbers, _caption(frame, numbers))


def _numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """Plotted numbers: mean and standard error over replicates of each measure, rung, comparison and data set."""
    tidy = frame.assign(series=np.where(frame["against"] == "exact", "exact", "above"))
    order = ["data", "series", "rung", "against"]
    pieces = []
    for measure in MEASURES:
        grouped = tidy.groupby(order, sort=False)
        summary = grouped[measure].apply(mean_and_error).unstack().reset_index()
        sizes = grouped[["n", "p", "k"]].max().reset_index()
        pieces.append(sizes.merge(summary, on=order).assign(measure=measure))
    numbers = pd.concat(pieces, ignore_index=True)
    drawn = (numbers["replicates"] > 0) & ~((numbers["measure"] == "relative_error") & (numbers["rung"] == SCALE_FREE))
    return numbers[drawn].astype({"replicates": int}).reset_index(drop=True)


def _panel(axis: Axes, numbers: pd.DataFrame, rungs: list[str]) -> None:
    edge = SMALLEST_ERROR if (numbers["measure"] == "relative_error").all() else -np.inf
    for place, (series, label) in enumerate(SERIES.items()):
        chosen = numbers[numbers["series"] == series]
        height = np.array([rungs.index(rung) for rung in chosen["rung"]]) + (place - 0.5) * 0.3
        mean, error = chosen["mean"].to_numpy(), chosen["se"].fillna(0.0).to_numpy()
        face = COLOURS[place] if series == "exact" else "white"
        marks: dict[str, Any] = {
            "color": COLOURS[place],
            "markerfacecolor": face,
            "linestyle": "none",
            "clip_on": False,
        }
        inside = mean >= edge
        axis.errorbar(mean[inside], height[inside], xerr=error[inside], marker=MARKERS[place], label=label, **marks)
        if not inside.all():
            axis.plot(np.full((~inside).sum(), edge), height[~inside], marker="<", **marks)
    axis.set_yticks(range(len(rungs)), rungs)
    axis.set_ylim(len(rungs) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x")
    for boundary in range(1, len(rungs)):
        axis.axhline(boundary - 0.5, color="0.93", linewidth=0.5, zorder=0)


def _error_axis(axes: Array, means: pd.Series, rungs: list[str]) -> None:
    largest = max(2.0, 1.5 * means.max())
    axes[0].set_xscale("log")
    axes[0].set_xlim(SMALLEST_ERROR, largest)
    decades = 10.0 ** np.arange(np.log10(SMALLEST_ERROR), np.log10(largest))
    axes[0].set_xticks(decades, ["" if place % 2 == 0 else f"{decade:g}" for place, decade in enumerate(decades)])
    axes[0].minorticks_off()
    for axis in axes:
        middle = np.sqrt(SMALLEST_ERROR * largest)
        axis.text(middle, rungs.index(SCALE_FREE), "(no scale)", ha="center", va="center", color="0.5")


def _rank_axis(axes: Array, means: pd.Series, rungs: list[str]) -> None:
    axes[0].set_xlim(min(0.0, 1.1 * means.min()), 1.0)
    axes[0].set_xticks([0, 0.5, 1], ["0", "0.5", "1"])


def _caption(frame: pd.DataFrame, numbers: pd.DataFrame) -> str:
    first = frame.iloc[0]
    missing = frame.loc[frame["unavailable"] != "", ["data", "rung"]].drop_duplicates()
    absent = "".join(f" No rung {row.rung!r} for some splits of {row.data}: singular." for row in missing.itertuples())
    return (
        "The ladder of approximations from exact leave-one-out influence to TRAK: each rung gives up one more thing "
        "than the rung above it. Top: relative error ‖T − I‖/‖I‖ over the n training points (log axis; an arrow at "
        f"the edge: below {SMALLEST_ERROR:g}). Bottom: Kendall's τ. Both dimensionless; filled against the exact "
        f"influence, open against the rung above. Means over {first['queries']} held-out queries; points and bars are "
        f"mean ± s.e. over {counted(numbers['replicates'], 'random splits')} and projections (bars shorter than a "
        f"marker are hidden; p and k: the largest over the splits). Ridge {first['ridge']:g} (sum convention, none on "
        f"the intercept), projected ridge 0, {first['ensemble']} projections, {first['ensemble']} models fitted on "
        "random halves. "
        f"{_certificate(frame)} The scores as released have an unknown common scale, hence no relative error.{absent}"
    )


def _certificate(frame: pd.DataFrame) -> str:
    cells = frame.drop_duplicates(["seed", "data", "replicate"])
    radius, unresolved = cells["truth_radius"].max(), int(cells["unresolved"].sum())
    if unresolved == 0:
        return f"Every exact influence is certified to within {radius:.0e} of its query's rms influence."
    return f"{unresolved} of {int(cells['n'].sum())} left-out points have no certified exact influence."
