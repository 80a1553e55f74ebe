"""The figure of an image study: the trajectory side above, the attribution at the end of training below."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.drawing import torch_panels
from paper_figures.drawing.curves import bars
from paper_figures.drawing.style import COLOURS, GUIDE, MARKERS, PAGE, Drawing
from simulations.workloads.torch_attribution import RELEASED, RESTORED, RULED


def draw_images(run: pd.DataFrame, end: pd.DataFrame, *, rate: float, caption: str) -> Drawing:
    """Six panels. run: trajectory rows; end: attribution rows; `rate`: that of the panels for one learning rate."""
    figure = Figure(figsize=(PAGE, 4.6), layout="constrained")
    above, below = figure.subplots(2, 3)
    at_rate = run[run["learning_rate"] == rate]
    first = at_rate[at_rate["replicate"] == at_rate["replicate"].min()]
    drawn = {
        "scatter": torch_panels.scatter(above[0], first),
        "ranks": torch_panels.ranks(above[1], run, x="learning_rate"),
        "budget": torch_panels.budget(above[2], at_rate),
        "ridge": _ridge(below[0], end),
        "left out": _left_out(below[1], end),
        "law": _laws(below[2], end),
    }
    above[0].set_title(f"one run, learning rate {rate:g}")
    above[1].set(xscale="log", xlabel="learning rate")
    above[2].set_title(f"learning rate {rate:g}")
    handles, labels = above[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    numbers = pd.concat([table.assign(panel=name) for name, table in drawn.items()], ignore_index=True)
    words = f"{caption} {torch_panels.in_words(run, x='learning_rate')} {_in_words(end)}"
    return Drawing(figure, numbers, words)


def _ridge(axis: Axes, end: pd.DataFrame) -> pd.DataFrame:
    """LDS against the ridge in units of the rule's, and TRAK's; bars: bootstrap error over subsets."""
    numbers = datamodel_scores(end)
    for place, (recipe, rows) in enumerate(numbers.groupby("recipe", sort=False)):
        style: dict[str, Any] = {"color": COLOURS[place], "markerfacecolor": COLOURS[place] if place == 0 else "white"}
        curve = rows[rows["score"] == RESTORED].sort_values("exponent")
        axis.errorbar(
            2.0 ** curve["exponent"], curve["mean"], yerr=curve["se"], marker=MARKERS[0], label=f"{recipe}", **style
        )
        for score, marker in ((RULED, MARKERS[2]), (RELEASED, MARKERS[1])):
            point = rows[rows["score"] == score]
            axis.errorbar([1.0], point["mean"], yerr=point["se"], marker=marker, markersize=5, **style)
    axis.axvline(1, color=GUIDE, zorder=0)
    axis.set_xscale("log", base=2)
    axis.set(xlabel="ridge/ridge of the rule", ylabel="LDS", ylim=(0, None))
    axis.legend(loc="lower left")
    return numbers


def datamodel_scores(end: pd.DataFrame) -> pd.DataFrame:
    """Mean LDS over seeds and its error from the subsets."""
    rows = end[end["part"] == "lds"]
    grouped = rows.groupby(["recipe", "score", "exponent"], sort=False)
    return grouped.agg(
        mean=("lds", "mean"), se=("lds_se", lambda se: np.sqrt((se**2).sum()) / len(se)), replicates=("lds", "count")
    ).reset_index()


def _left_out(axis: Axes, end: pd.DataFrame) -> pd.DataFrame:
    """Restored influence of left-out points on the first query against retraining; each in units of its rms."""
    rows = end[end["part"] == "point"][["recipe", "replicate", "sample", "truth", "restored"]].reset_index(drop=True)
    for measure in ("truth", "restored"):
        rms = rows.groupby(["recipe", "replicate"])[measure].transform(lambda values: np.sqrt(np.mean(values**2)))
        rows[measure] /= rms
    for place, (_, chosen) in enumerate(rows.groupby("recipe", sort=False)):
        axis.plot(chosen["truth"], chosen["restored"], "o", color=COLOURS[place], markersize=2, alpha=0.7)
    axis.axline((0, 0), slope=1, color=GUIDE, zorder=0)
    axis.set(xlabel="leave-one-out retraining / rms", ylabel="restored influence / rms")
    return rows


def _laws(axis: Axes, end: pd.DataFrame) -> pd.DataFrame:
    """Measured less predicted Spearman of sketched TRAK with the Newton step; bars: over draws of the sketch."""
    columns = ["recipe", "replicate", "sketch", "k", "k_over_n", "predicted", "measured", "measured_se", "coverage"]
    rows = end[end["part"] == "law"][columns].reset_index(drop=True)
    rows = rows.assign(residual=rows["measured"] - rows["predicted"], residual_se=rows["measured_se"])
    for place, (sketch, chosen) in enumerate(rows.groupby("sketch", sort=False)):
        label = {"normal": "normal projection", "count": "CountSketch"}[str(sketch)]
        filled = COLOURS[place] if place == 0 else "white"
        bars(
            axis,
            chosen,
            x="predicted",
            y="residual",
            place=place,
            label=label,
            linestyle="none",
            markerfacecolor=filled,
        )
    axis.axhline(0.0, color=GUIDE, zorder=0)
    axis.set(xlabel="predicted Spearman of TRAK", ylabel="measured − predicted")
    low, high = axis.get_ylim()
    axis.set_ylim(low, high + 0.45 * (high - low))
    axis.legend(loc="upper left")
    return rows


def _in_words(end: pd.DataFrame) -> str:
    scores = datamodel_scores(end)
    curve = scores[scores["score"] == RESTORED]
    at_rule = curve[curve["exponent"] == 0].set_index("recipe")["mean"]
    distance = (curve.groupby("recipe")["mean"].max() - at_rule).max()
    left = end[end["part"] == "loo"].groupby("score")["spearman"].mean()
    laws = end[end["part"] == "law"]
    first = end.iloc[0]
    return (
        f"Below, margins of {first['asked']:.0f} held-out images, n = {first['n']:.0f}. Left: linear datamodelling "
        "score of restored influence against its ridge in units of the one that follows from the recipe; triangles: "
        "TRAK with k = 2n and the ridge of the rule, squares: with k = n/4 and none; bars: bootstrap error over "
        f"subsets; the rule is at most {distance:.3f} below the best ridge tried. Middle: leave-one-out, one query; "
        f"Spearman, mean over queries: restored {left[RESTORED]:.2f}, TRAK {left[RELEASED]:.2f}. Right: agreement of "
        "TRAK, from gradients sketched as they stream, with the Newton step, measured less predicted, at most "
        f"{(laws['measured'] - laws['predicted']).abs().max():.3f}; 95 % intervals of single scores hold "
        f"for {laws['coverage'].mean():.1%}."
    )
