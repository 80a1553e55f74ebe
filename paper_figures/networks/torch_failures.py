"""Failure of every estimator: transformers from scratch, before and after a warm-up, over learning rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.drawing.style import COLOURS, GUIDE, MARKERS, PAGE, Drawing
from paper_figures.drawing.torch_panels import legend, ranks
from paper_figures.drawing.words import counted
from simulations.engine.store import Store
from simulations.engine.study import find_study

STARTS = {"warm": "after a warm-up", "fresh moments": "new optimiser", "scratch": "from scratch"}
FAMILIES = {"torch_gpt2": "GPT-2", "torch_llama": "Llama"}
START_COLOURS = ("0.65", COLOURS[6], "0.3")  # none that an estimator has
SHOWN = "two-step"
HALF = 0.5


def draw(results: Path) -> Drawing:
    frames = {name: _small(Store(results).load(find_study(name))) for name in FAMILIES}
    starts = [start for start in STARTS if any((frame["start"] == start).any() for frame in frames.values())]
    figure = Figure(figsize=(PAGE, 3.8), layout="constrained")
    grid = figure.subplots(len(frames), len(starts) + 1, squeeze=False)
    numbers = []
    for row, (name, frame) in zip(grid, frames.items(), strict=True):
        for axis, start in zip(row[:-1], starts, strict=True):
            if not (frame["start"] == start).any():
                axis.set_axis_off()
                continue
            drawn = ranks(axis, frame[frame["start"] == start], x="learning_rate")
            numbers.append(drawn.assign(family=FAMILIES[name], start=start, panel="ranks"))
            axis.set(xscale="log", ylabel="", title=f"{FAMILIES[name]}, {STARTS[start]}")
            axis.set(ylim=(-0.2, 1.05), xlim=_around(frame["learning_rate"]))
        row[0].set_ylabel("Spearman with retraining")
        numbers.append(_causes(row[-1], frame, starts).assign(family=FAMILIES[name], panel="causes"))
    for axis in grid[-1, :-1]:
        axis.set_xlabel("learning rate")
    grid[-1, -1].set_xlabel("error of the derivative")
    legend(figure, grid[0, 0])
    caption = (
        "Where every estimator fails. Small transformers in float64 under AdamW, retraining without single sequences; "
        "mean ± s.e. over seeds. Right: for every run the relative error of the two-step push against that of the "
        "sweep itself, first order against central differences of the whole run in one sample's weight; circles: after "
        "a warm-up, squares: after one but with a new optimiser, triangles: from scratch. "
        f"{_blame(numbers)} {_verdicts(frames)}"
    )
    return Drawing(figure, pd.concat(numbers, ignore_index=True), caption)


def _small(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["model"] == "small"] if "model" in frame else frame


def _around(rates: pd.Series) -> tuple[float, float]:
    return 0.6 * float(rates.min()), 1.7 * float(rates.max())


def _causes(axis: Axes, frame: pd.DataFrame, starts: list[str]) -> pd.DataFrame:
    """The two-step push's relative error against the error of the derivative, one point for each run."""
    keys = ["start", "learning_rate", "replicate"]
    best = frame[(frame["part"] == "estimator") & (frame["estimator"] == SHOWN)]
    runs = frame[frame["part"] == "run"][[*keys, "derivative_error"]]
    joined = best[[*keys, "relative_error"]].merge(runs, on=keys)
    for start in starts:
        chosen = joined[joined["start"] == start]
        place = list(STARTS).index(start)
        points: dict[str, Any] = {
            "marker": MARKERS[place],
            "color": START_COLOURS[place],
            "linestyle": "none",
            "markersize": 3,
        }
        axis.plot(chosen["derivative_error"], chosen["relative_error"], **points)
    axis.axhline(1.0, color=GUIDE, linewidth=0.6, zorder=0)
    axis.set(xscale="log", yscale="log", ylabel="error of two-step push")
    return joined


def _blame(numbers: list[pd.DataFrame]) -> str:
    causes = pd.concat([part for part in numbers if (part["panel"] == "causes").all()])
    lost = causes[causes["relative_error"] > HALF]
    if lost.empty:
        return f"No run is off by more than {HALF}."
    worst = lost["derivative_error"].max()
    return (
        f"On {counted([len(lost)], 'runs')} off by more than {HALF} the sweep is right to {worst:.0e} or better: what "
        "fails is the expansion along the path."
    )


def _verdicts(frames: dict[str, pd.DataFrame]) -> str:
    runs = pd.concat(frames.values())
    runs = runs[(runs["part"] == "run") & (runs["true_label"] == "do not trust")]
    said = runs["free_label"].value_counts()
    counts = ", ".join(f"{label} {count}" for label, count in said.items())
    return f"Verdict without retraining on {counted([len(runs)], 'runs')} not to be trusted: {counts or 'none there'}."
