"""The error budget of trajectory influence, level by level and by source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.drawing.curves import summary
from paper_figures.drawing.style import COLOURS, MARKERS, PAGE, Drawing
from paper_figures.drawing.words import counted
from simulations.engine.store import Store
from simulations.engine.study import find_study

STEPS = 60
SMALLEST = 1e-4  # the left edge of the gap axis; an arrow stands for what lies beyond
SOURCES = {"algorithm": "algorithm", "config": "configuration", "system": "system"}


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("error_levels"))
    frame = frame[frame["steps"] == STEPS]
    frame = frame.assign(series=np.where(frame["against"] == "truth", "truth", "above"))
    keys = ["learning_rate", "kind", "level", "series", "source"]
    numbers = summary(frame, keys, ["gap", "spearman"])
    rates = sorted(set(numbers["learning_rate"]))
    levels = list(dict.fromkeys(frame["level"]))
    figure = Figure(figsize=(PAGE, 4.3), layout="constrained")
    axes = figure.subplots(1, len(rates), sharey=True, sharex=True, squeeze=False)[0]
    for axis, rate in zip(axes, rates, strict=True):
        chosen = numbers[(numbers["learning_rate"] == rate) & (numbers["measure"] == "gap")]
        _panel(axis, chosen, levels)
        axis.set_title(f"learning rate {rate:g}")
        axis.set_xlabel("gap / ‖truth‖")
    axes[0].set_yticks(range(len(levels)), levels)
    axes[0].set_ylim(len(levels) - 0.5, -0.5)
    axes[0].set_xlim(SMALLEST / 1.5, 3 * numbers.loc[numbers["measure"] == "gap", "mean"].max())
    handles, labels = axes[0].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=2)
    first = frame.iloc[0]
    caption = (
        "The error budget of trajectory influence. Each level gives up one more thing than the level above it, from "
        f"retraining without each of n = {first['n']} digits down to gradient products at every tenth checkpoint "
        f"(AdamW with a cosine schedule, tanh network, p = {first['p']}, |B| = {first['batch']}, {STEPS} steps; query: "
        "mean held-out loss). Filled: distance to the truth; open: distance to the level above (these differences sum "
        "to the whole error). The last three levels are one wrong assumption each, on an otherwise best estimate: "
        "their gap is the distance to that estimate. Colours: the kind of error. Log axis; an arrow at the edge: "
        f"below {SMALLEST:g}. Mean ± s.e. over {counted(numbers['replicates'], 'runs')}."
    )
    return Drawing(figure, numbers, caption)


def _panel(axis: Axes, numbers: pd.DataFrame, levels: list[str]) -> None:
    for place, (source, label) in enumerate(SOURCES.items()):
        for series, face, shift in (("truth", COLOURS[place], -0.15), ("above", "white", 0.15)):
            chosen = numbers[(numbers["source"] == source) & (numbers["series"] == series)]
            height = np.array([levels.index(level) for level in chosen["level"]]) + shift
            mean, error = chosen["mean"].to_numpy(), chosen["se"].fillna(0.0).to_numpy()
            inside = mean >= SMALLEST
            low = np.minimum(error, 0.9 * mean)  # a bar that does not reach zero on the log axis
            name = f"{label}, against the truth" if series == "truth" else f"{label}, against the level above"
            axis.errorbar(
                mean[inside],
                height[inside],
                xerr=[low[inside], error[inside]],
                linestyle="none",
                color=COLOURS[place],
                marker=MARKERS[place],
                markerfacecolor=face,
                label=name,
            )
            beyond = (~inside).sum()
            axis.plot(np.full(beyond, SMALLEST), height[~inside], "<", color=COLOURS[place], markerfacecolor=face)
    axis.set_xscale("log")
    axis.grid(axis="x")
