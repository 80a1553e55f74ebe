"""Orders of the leave-one-out series: in copies of the data, in n at fixed p/n, in the leverage."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.drawing.curves import bars
from paper_figures.drawing.style import PAGE, Drawing, mean_and_error
from paper_figures.drawing.words import counted
from simulations.engine.store import Store
from simulations.engine.study import find_study

REGIMES = {
    "copies": ("error", "copies of each point", "error of one copy"),
    "proportional": ("relative_error", "points n, with p = n/4", "relative error"),
    "leverage": ("relative_error", "leverage h of the point", "relative error"),
}
ROWS = ("logistic", "poisson")
KEYS = ["regime", "loss", "series"]
TICKS = {"copies": (4, 8, 16, 32), "proportional": (50, 100, 200, 400), "leverage": (0.01, 0.03, 0.1, 0.3)}
ROOM_FOR_SLOPES = 0.75  # of the height of the lines, below them


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("expansion_orders"))
    numbers = _numbers(frame)
    series = list(dict.fromkeys(numbers["series"]))
    figure = Figure(figsize=(PAGE, 5.6), layout="constrained")
    grid = figure.subplots(len(ROWS), len(REGIMES), sharex="col", squeeze=False)
    for axes, loss in zip(grid, ROWS, strict=True):
        for axis, regime in zip(axes, REGIMES, strict=True):
            chosen = numbers[(numbers["regime"] == regime) & (numbers["loss"] == loss)]
            if chosen.empty:  # not computed yet
                axis.set_axis_off()
                continue
            _panel(axis, chosen, series)
            axis.set_ylabel(REGIMES[regime][2])
            axis.set_title(f"{loss} loss")
    for axis, (regime, (_, label, _)) in zip(grid[-1], REGIMES.items(), strict=True):
        axis.set_xlabel(label)
        axis.set_xticks(TICKS[regime], [f"{tick:g}" for tick in TICKS[regime]])
        axis.minorticks_off()
    handles, _ = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, series, loc="outside lower center", ncols=len(series))
    return Drawing(figure, numbers, _caption(numbers))


def _numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """Plotted numbers: mean and standard error over data sets of each error, and of each slope."""
    pieces = []
    for regime, (measure, _, _) in REGIMES.items():
        chosen = frame[frame["regime"] == regime]
        grouped = chosen.groupby([*KEYS, "step"], sort=False)
        summary = grouped[measure].apply(mean_and_error).unstack().reset_index()
        summary = summary.merge(grouped["size"].mean().reset_index(), on=[*KEYS, "step"])
        cells = chosen.drop_duplicates(["seed", "replicate", *KEYS])
        slopes = cells.groupby(KEYS, sort=False)["slope"].apply(mean_and_error).unstack().reset_index()
        slopes = slopes.rename(columns={"mean": "slope", "se": "slope_se"}).drop(columns="replicates")
        pieces.append(summary.merge(slopes, on=KEYS).assign(measure=measure))
    return pd.concat(pieces, ignore_index=True).astype({"replicates": int})


def _panel(axis: Axes, numbers: pd.DataFrame, series: list[str]) -> None:
    for place, name in enumerate(series):
        line = numbers[numbers["series"] == name]
        if line.empty:
            continue
        first = line.iloc[0]
        bars(axis, line, x="size", place=place, label=f"{first['slope']:.2f}".replace("-", "−"))
    axis.set_xscale("log")
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    axis.set_ylim(low * (low / high) ** ROOM_FOR_SLOPES, high)
    axis.grid()
    axis.legend(title="slopes", ncols=2, handlelength=1.0, columnspacing=1.0, labelspacing=0.3, loc="lower left")


def _caption(numbers: pd.DataFrame) -> str:
    squared = numbers[numbers["loss"] == "squared"].drop_duplicates("series")
    slopes = ", ".join(f"{row.slope:.6f} ({row.series})" for row in squared.itertuples())
    return (
        "Errors ‖T − I‖, relative ‖T − I‖/‖I‖, of leave-one-out series against the exact influence: infinitesimal "
        "jackknife of orders 1 to 3, "
        "Newton's step, and Newton's step with its second-order term. Left: 100 points, p = 5, each copied 4 to 32 "
        "times with the ridge, one copy removed; the theory gives slopes −2, −3, −4, −2, −3. Middle: p = n/4 and "
        "growing n; slopes are reported, no theory is claimed. Right: n = 400, p = 40, rows of uneven length, points "
        "in eight bins of leverage; slopes over single points. For the squared loss the slopes in the leverage are "
        f"{slopes}; Newton is exact there. Points and bars are mean ± s.e. over "
        f"{counted(numbers['replicates'], 'data sets')} (bars smaller than "
        "a marker are hidden), slopes are means over the same data sets (s.e. at most "
        f"{numbers['slope_se'].max():.2f}). Gaussian features, ridge n/100 (sum "
        "convention), 20 queries; error in the units of the linear output, relative error dimensionless."
    )
