"""Errors of group Newton and of summed influence against points and group size."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.drawing.curves import bars, shared_legend, summary
from paper_figures.drawing.style import PAGE, Drawing, mean_and_error
from paper_figures.drawing.words import counted
from simulations.engine.store import Store
from simulations.engine.study import find_study

LABELS = {
    "newton": "group Newton − exact",
    "difference": "sum of influences − group Newton",
}
TITLES = {
    "n, d = 10": ("points n", "one point, d = 10"),
    "n, d = n/2": ("points n", "one point, d = n/2"),
    "m, d = 10": ("points left out m", "n = 1600, d = 10"),
    "m, d = n/2": ("points left out m", "n = 400, d = 200"),
}


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("groups")).rename(columns={"measure": "gap"})
    frame = frame[frame["gap"].isin(list(LABELS))]
    numbers = summary(frame, ["regime", "gap", "size"], ["error"])
    one = frame.drop_duplicates(["seed", "replicate", "regime", "gap"])
    slopes = one.groupby(["regime", "gap"], sort=False)["slope"].apply(mean_and_error).unstack().reset_index()
    slopes = slopes.rename(columns={"mean": "slope", "se": "slope_se"}).drop(columns="replicates")
    numbers = numbers.merge(slopes, on=["regime", "gap"])
    figure = Figure(figsize=(PAGE, 2.4), layout="constrained")
    axes = figure.subplots(1, len(TITLES), sharey=True)
    for axis, (regime, (label, title)) in zip(axes, TITLES.items(), strict=True):
        _panel(axis, numbers[numbers["regime"] == regime])
        axis.set_xlabel(label)
        axis.set_title(title)
    axes[0].set_ylabel("mean norm of the error in θ")
    shared_legend(figure, axes[0], len(LABELS))
    return Drawing(figure, numbers, _caption(numbers))


def _panel(axis: Axes, numbers: pd.DataFrame) -> None:
    for place, (name, label) in enumerate(LABELS.items()):
        line = numbers[numbers["gap"] == name].sort_values("size")
        bars(axis, line, x="size", place=place, label=label)
    axis.set_xscale("log")
    axis.set_yscale("log")
    ticks = sorted(set(numbers["size"]))
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.grid()


def _caption(numbers: pd.DataFrame) -> str:
    one = numbers.drop_duplicates(["regime", "gap"]).itertuples()
    slopes = "; ".join(f"{row.regime}, {row.gap}: {row.slope:.2f} ± {row.slope_se:.1g}" for row in one)
    return (
        "Errors of the coefficients after leaving out groups of m random points of a ridge-logistic regression: one "
        "group Newton step against the exact minimisers, and the sum of the members' influence functions against that "
        "step (against the exact minimisers the sum errs by as much, to a few per cent). Slopes of "
        f"the logarithms over each panel (mean ± s.e. over data sets): {slopes}. Points are means over 30 groups, then "
        f"mean ± s.e. over {counted(numbers['replicates'], 'data sets')}. "
        "Gaussian rows of unit variance, signal 1, ridge n/20 (sum "
        "convention); norms in the units of θ."
    )
