"""Along which sizes a network tends to its kernel machine, at what rate, and along which it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.drawing.curves import bars, shared_legend
from paper_figures.drawing.style import GUIDE, PAGE, Drawing, mean_and_error
from paper_figures.drawing.words import counted, plus_minus
from simulations.engine.store import Store
from simulations.engine.study import find_study
from simulations.studies.shallow.feature_learning import DECAY, NOISE, RIDGE, SIZES

MEASURES = {"relative_error": "relative error", "kendall": "Kendall's τ"}
ESTIMATES = ("kernel machine", "kernel influence", "kernel influence at the start")
LABELS = {
    "output scale": "output scale s",
    "initial scale": "initial scale",
    "width, NTK": "width m (NTK)",
    "width, weight decay": "width m (weight decay)",
}
FIRST_FITTED = 4.0  # the slope along the output scale is fitted from here


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("feature_learning"))
    numbers, slopes = _numbers(frame), _slopes(frame)
    figure = Figure(figsize=(PAGE, 3.4), layout="constrained")
    grid = figure.subplots(len(MEASURES), len(SIZES), sharex="col", sharey="row", squeeze=False)
    for axes, (measure, label) in zip(grid, MEASURES.items(), strict=True):
        for axis, curve in zip(axes, SIZES, strict=True):
            _panel(axis, numbers[(numbers["measure"] == measure) & (numbers["curve"] == curve)])
        axes[0].set_ylabel(label)
    for axis, curve in zip(grid[0], SIZES, strict=True):
        axis.set_yscale("log")
        axis.set_title(f"slope {plus_minus(*slopes.loc[curve, ['mean', 'se']])}".replace("-", "−"))
    for axis, curve in zip(grid[1], SIZES, strict=True):
        axis.set_xscale("log", base=2)
        axis.set_xlabel(LABELS[curve])
    _guide(grid[0][0], numbers)
    shared_legend(figure, grid[1][0])
    return Drawing(figure, numbers, _caption(frame, slopes))


def _numbers(frame: pd.DataFrame) -> pd.DataFrame:
    order = ["curve", "size", "estimate"]
    pieces = [
        frame.groupby(order)[measure].apply(mean_and_error).unstack().reset_index().assign(measure=measure)
        for measure in MEASURES
    ]
    return pd.concat(pieces, ignore_index=True).astype({"replicates": int})


def _slopes(frame: pd.DataFrame) -> pd.DataFrame:
    """Of log relative error of the kernel machine against log size, network by network."""
    machine = frame[frame["estimate"] == "kernel machine"]
    machine = machine[(machine["curve"] != "output scale") | (machine["size"] >= FIRST_FITTED)]
    fitted = machine.groupby(["curve", "replicate"])[["size", "relative_error"]].apply(
        lambda line: np.polyfit(np.log(line["size"]), np.log(line["relative_error"]), 1)[0]
    )
    return fitted.groupby("curve").apply(mean_and_error).unstack()


def _panel(axis: Axes, numbers: pd.DataFrame) -> None:
    for place, estimate in enumerate(ESTIMATES):
        line = numbers[numbers["estimate"] == estimate].sort_values("size")
        bars(axis, line, x="size", place=place, label=estimate)
    axis.grid(axis="y")


def _guide(axis: Axes, numbers: pd.DataFrame) -> None:
    """1/s through the kernel machine's error at the first fitted scale."""
    chosen = numbers[(numbers["measure"] == "relative_error") & (numbers["curve"] == "output scale")]
    chosen = chosen[(chosen["estimate"] == "kernel machine") & (chosen["size"] >= FIRST_FITTED)].sort_values("size")
    scale = chosen["size"].to_numpy()
    axis.plot(scale, chosen["mean"].iloc[0] * scale[0] / scale, color=GUIDE, linestyle="--", zorder=0)


def _caption(frame: pd.DataFrame, slopes: pd.DataFrame) -> str:
    first = frame.iloc[0]
    return (
        "Two-layer tanh networks on teacher data: the kernel machine (exact leave-one-out of the network linearised at "
        "its optimum) and the influence function of its kernel, at the optimum and at the start, against exact "
        "leave-one-out influence; dimensionless. Titles: slope of the kernel machine's log error against log size, "
        f"mean ± s.e. over {counted(slopes['replicates'], 'networks')} (output scale: from s = {FIRST_FITTED:g}; "
        "dashed: 1/s). The first three panels centre outputs and penalty at the start: f = s(h(θ) − h(θ₀)) with the "
        "ridge of the function fixed; the start multiplied; and NTK scaling. The last is the ordinary network with "
        f"weight decay around zero. n = {first['n']}, {first['queries']} queries, ridge {RIDGE:g} (weight decay "
        f"{DECAY:g}), noise {NOISE:g}; points and bars are mean ± s.e. over networks."
    )
