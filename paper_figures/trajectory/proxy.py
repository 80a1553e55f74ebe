"""How well an attribution knows its own error: proxy, bound and verdict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.drawing.curves import curves, replicates, summary
from paper_figures.drawing.style import GUIDE, PAGE, Drawing
from simulations.engine.store import Store
from simulations.engine.study import find_study
from simulations.studies.trajectory.proxy import LABELS, label_by_length

BOUND = "frozen-push"
VERDICTS = {"free_label": "verdict without retraining", "audited_label": "verdict with an audit"}


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("proxy"))
    bounded = frame[frame["estimator"] == BOUND]
    first_order = frame[(frame["estimator"] == "first-order") & (frame["optimizer"] == "adamw")]
    proxies = summary(first_order, ["learning_rate"], ["proxy_spearman", "within_two"]).assign(panel="proxy")
    bounds = summary(bounded, ["learning_rate"], ["coverage", "width"]).assign(panel="bound")
    figure = Figure(figsize=(PAGE, 2.3), layout="constrained")
    axes = figure.subplots(1, 4)
    named = {"proxy_spearman": "Spearman with |error|", "within_two": "share within a factor 2"}
    curves(axes[0], proxies, x="learning_rate", group="measure", labels=named)
    axes[0].set(xscale="log", ylim=(0, 1.45), title="proxy of first order", xlabel="learning rate")
    axes[0].legend(loc="upper left")
    named = {"coverage": "share covered", "width": "median width / rms"}
    curves(axes[1], bounds, x="learning_rate", group="measure", labels=named)
    axes[1].axhline(0.9, color=GUIDE, linewidth=0.6, zorder=0)
    axes[1].set(xscale="log", ylim=(0, 1.6), title="90 % bound, frozen push", xlabel="learning rate")
    axes[1].legend(loc="upper left")
    tables = [
        _confusion(axis, bounded, column, title)
        for axis, (column, title) in zip(axes[2:], VERDICTS.items(), strict=True)
    ]
    numbers = pd.concat([proxies, bounds, *tables], ignore_index=True)
    return Drawing(figure, numbers, _caption(frame, bounded, pd.concat([proxies, bounds])))


def _confusion(axis: Axes, frame: pd.DataFrame, column: str, title: str) -> pd.DataFrame:
    """Counts of true class against verdict, drawn as a table."""
    counts = np.array(
        [[int(((frame["true_label"] == true) & (frame[column] == said)).sum()) for said in LABELS] for true in LABELS]
    )
    axis.imshow(counts, cmap="Greys", vmin=0, vmax=2 * counts.max())
    for row, column_place in np.ndindex(counts.shape):
        axis.text(column_place, row, f"{counts[row, column_place]}", ha="center", va="center")
    axis.set_xticks(range(3), ["trust", "ranks", "no"])
    axis.set_yticks(range(3), ["trust", "ranks", "no"])
    axis.tick_params(length=0)
    axis.set(title=title, xlabel="verdict", ylabel="truth")
    cells = [
        {"panel": column, "true_label": true, "label": said, "count": counts[i, j]}
        for i, true in enumerate(LABELS)
        for j, said in enumerate(LABELS)
    ]
    return pd.DataFrame(cells)


def _caption(frame: pd.DataFrame, bounded: pd.DataFrame, curves_drawn: pd.DataFrame) -> str:
    place = {name: rank for rank, name in enumerate(LABELS)}
    truth = bounded["true_label"].map(place)
    scores = []
    for column, name in (("free_label", "without retraining"), ("audited_label", "with the audit")):
        said = bounded[column].map(place)
        for chosen, where in (
            (~bounded["left_out"], "families of the calibration"),
            (bounded["left_out"], "one left out"),
        ):
            right, bold = (said == truth)[chosen].mean(), (said < truth)[chosen].mean()
            scores.append(f"{name}, {where}: {right:.0%} right, {bold:.0%} too optimistic ({int(chosen.sum())} runs)")
    commonest = bounded["true_label"].value_counts(normalize=True).iloc[0]
    columns = ("rate_times_steps", "true_label", "left_out")
    length, true_label, left_out = (bounded[column].to_numpy() for column in columns)
    by_length = pd.Series(label_by_length(length, true_label, ~left_out) == true_label)[left_out].mean()
    return (
        "How well a trajectory attribution knows its own error (ours; constants calibrated beforehand on other runs). "
        "Left: the proxy of first order on AdamW runs, |two-step − first order|, against its error. Second: coverage "
        "and median width of the calibrated bound. Right: confusion of the run-level verdict (trust: Spearman ≥ .95 "
        f"and relative error ≤ .35; ranks: Spearman ≥ .8), n = {frame.iloc[0]['n']}, audit of "
        f"{frame.iloc[0]['audit']} retrainings. {'; '.join(scores)}; the commonest class is {commonest:.0%}; "
        f"two thresholds on learning rate × steps, fitted to the other families, {by_length:.0%} on the one left out. "
        f"Mean ± s.e. over {replicates(curves_drawn)} runs of random length and batch size."
    )
