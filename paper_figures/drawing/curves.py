"""Curves of a measure against a setting, one per group, with the standard error over replicates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from paper_figures.drawing.style import COLOURS, MARKERS, PAGE, mean_and_error
from paper_figures.drawing.words import counted

ESTIMATORS = {
    "sgd": "SGD formula",
    "first-order": "first order",
    "hybrid": "hybrid",
    "exact-push": "exact push",
    "two-step": "two-step push",
    "frozen-push": "frozen push",
}


def summary(frame: pd.DataFrame, keys: Sequence[str], measures: Sequence[str]) -> pd.DataFrame:
    """Tidy rows keys, measure, mean, se, replicates."""
    pieces = []
    for measure in measures:
        grouped = frame.groupby(list(keys), sort=False)[measure].apply(mean_and_error).unstack().reset_index()
        pieces.append(grouped.assign(measure=measure))
    numbers = pd.concat(pieces, ignore_index=True)
    return numbers[numbers["replicates"] > 0].astype({"replicates": int}).reset_index(drop=True)


def curves(axis: Axes, numbers: pd.DataFrame, *, x: str, group: str, labels: Mapping[str, str]) -> None:
    """One curve for each entry of `labels` (group → label); its place there decides colour and marker."""
    for place, (name, label) in enumerate(labels.items()):
        chosen = numbers[numbers[group] == name].sort_values(x)
        bars(axis, chosen, x=x, place=place, label=label)
    axis.grid(axis="y")


def bars(axis: Axes, numbers: pd.DataFrame, *, x: str, place: int, label: str, y: str = "mean", **drawn: Any) -> None:
    """y ± `se` (or `{y}_se`) against x; the place decides colour and marker. No error is no bar."""
    error = numbers["se"] if y == "mean" else numbers[f"{y}_se"]
    shape = {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)], "label": label}
    axis.errorbar(numbers[x], numbers[y], yerr=error.astype(float).fillna(0.0), **shape | drawn)


def simulated(axis: Axes, numbers: pd.DataFrame, *, x: str, place: int, label: str) -> None:
    """Open markers with error bars: what was simulated, beside a law drawn as a line of the same colour."""
    bars(axis, numbers, x=x, place=place, label=label, linestyle="none", markerfacecolor="white", markeredgewidth=0.8)


def data_sets(numbers: pd.DataFrame) -> str:
    """The end of a caption: what points and bars are, where laws stand beside data."""
    of = counted([numbers.loc[numbers["part"] == "data", "replicates"].max()], "data sets")
    return f"points and bars are mean ± s.e. over {of} (bars shorter than a marker are hidden)."


def shared_legend(figure: FigureBase, axis: Axes, columns: int | None = None, *, title: str | None = None) -> None:
    """One legend below all panels, with the entries of one of them; all in one row unless `columns` says otherwise."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns or len(handles), title=title)


def lds_by_recipe(numbers: pd.DataFrame, panel: Callable[[Axes, pd.DataFrame], None], *, columns: int) -> Figure:
    """A figure of one panel for each training recipe, with LDS as their common axis; `columns` of the legend."""
    recipes = list(numbers.groupby("recipe", sort=False))
    figure = Figure(figsize=(PAGE, 2.9), layout="constrained")
    axes = figure.subplots(1, len(recipes), sharey=True, squeeze=False)[0]
    for axis, (recipe, rows) in zip(axes, recipes, strict=True):
        panel(axis, rows)
        axis.set_title(recipe)
    axes[0].set_ylabel("LDS")
    shared_legend(figure, axes[0], columns)
    return figure
