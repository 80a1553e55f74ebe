"""The ridge of the recipe against all others, by the linear datamodelling score."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from paper_figures.drawing.curves import shared_legend
from paper_figures.drawing.style import COLOURS, GUIDE, MARKERS, PAGE, Drawing
from simulations.engine.store import Store
from simulations.engine.study import find_study

COLUMNS = 3
CURVES = ("curvature-weighted", "unit curvature")


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("ridge_rule"))
    frame = frame[frame["n"] == frame["n"].max()]
    columns = ["recipe", "k", "kernel", "exponent", "ridge", "lds", "se", "n", "hidden", "subsets", "queries"]
    numbers = frame[columns].reset_index(drop=True)
    recipes = list(dict.fromkeys(numbers["recipe"]))
    points = [kernel for kernel in dict.fromkeys(numbers["kernel"]) if kernel not in CURVES]
    figure = Figure(figsize=(PAGE, 4.2), layout="constrained")
    axes = figure.subplots(-(-len(recipes) // COLUMNS), COLUMNS, sharex=True, sharey=True, squeeze=False)
    for axis in axes.flat[len(recipes) :]:
        axis.remove()
    for axis, recipe in zip(axes.flat, recipes, strict=False):
        chosen = numbers[numbers["recipe"] == recipe]
        for place, kernel in enumerate((*CURVES, *points)):
            group = chosen[chosen["kernel"] == kernel]
            group = group[group["k"] == group["k"].min()].sort_values("exponent")  # one network of each k
            axis.errorbar(
                2.0 ** group["exponent"],
                group["lds"],
                yerr=group["se"],
                color=COLOURS[place],
                marker=MARKERS[place],
                markersize=2.5 if kernel in CURVES else 5,
                linestyle="-" if kernel in CURVES else "none",
                label=kernel,
            )
        axis.axvline(1, color=GUIDE, zorder=0)
        axis.set_xscale("log", base=2)
        axis.set_title(recipe)
    for row in axes:
        row[0].set_ylabel("LDS")
    for axis in axes[-1]:
        axis.set_xlabel("ridge/ridge of the rule")
    shared_legend(figure, figure.axes[0], 3)
    return Drawing(figure, numbers, _caption(numbers))


def _caption(numbers: pd.DataFrame) -> str:
    first, widths = numbers.iloc[0], sorted(set(numbers["k"]))
    others = f" Each k is on a network of its own; the curves are those of k = {widths[0]}." if len(widths) > 1 else ""
    gaps = []
    for kernel in CURVES:
        chosen = numbers[numbers["kernel"] == kernel]
        best = chosen.groupby(["recipe", "k"])["lds"].max()
        rule = chosen[chosen["exponent"] == 0].set_index(["recipe", "k"])["lds"]
        gaps.append(f"{kernel} {(best - rule).max():.3f}")
    return (
        f"Linear datamodelling score (mean Spearman over {first['queries']} queries ± s.e. over queries) of a 64-"
        f"{first['hidden']}-10 network on {first['n']} digits, {first['subsets']} random subsets (half of the points; "
        "one quarter where the panel says so), retrained from the same start. Ridge in units of the one that follows "
        "from the training recipe (vertical line), chosen without the truth; single markers: softmax block and "
        f"projections at their own ridge. Largest distance of the rule to the best of 13 ridges: {', '.join(gaps)}."
        f"{others}"
    )
