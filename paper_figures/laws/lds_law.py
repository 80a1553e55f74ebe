"""The linear datamodelling score of kernel scores over their ridge, and of TRAK over its projected dimension."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.drawing.curves import data_sets
from paper_figures.drawing.style import COLOURS, MARKERS, PAGE, Drawing, mean_and_error
from simulations.engine.store import Store
from simulations.engine.study import find_study

DESIGN = ["p_over_n", "ridge_over_n"]
LEVELS = {"ceiling": "ceiling", "exact": "exact leave-one-out"}
CURVES = {"kernel": "kernel with ridge γ", "trak": "TRAK, one projection"}
CAPTION = (
    "Linear datamodelling score of least squares: Pearson correlation, over random half-subsets, of summed scores "
    "with the output of the model trained on the subset; predicted with nothing fitted (lines) and simulated "
    "(points); dimensionless. Top: kernel scores against their ridge γ; with a model ridge λ > 0 a larger γ beats "
    "exact leave-one-out influence, so that this score does not measure leave-one-out fidelity. Bottom: TRAK "
    "against its projected dimension. n = {n:,} points x ~ N(0, I_p), signal {signal:g}, noise "
    "{noise:g}, {subsets:,} subsets, {queries} queries, projected ridge 0. The "
    "simulated ceiling is √ of the adjusted R² of outputs on membership. "
)


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("lds_law"))
    frame = frame[frame["n"] == frame["n"].max()]
    order = [*DESIGN, "n", "p", "ridge", "score", "at", "part"]
    numbers = frame.groupby(order)["lds"].apply(mean_and_error).unstack().reset_index().astype({"replicates": int})
    designs = [design for _, design in numbers.groupby(DESIGN)]
    figure = Figure(figsize=(PAGE, 3.8), layout="constrained")
    panels = figure.subplots(len(CURVES), len(designs), sharey=True, sharex="row")
    for column, design in zip(panels.T, designs, strict=True):
        for axis, (curve, colour) in zip(column, zip(CURVES, COLOURS, strict=False), strict=True):
            _panel(axis, design, curve, colour)
        size = design.iloc[0]
        column[0].set_title(f"p = {size['p_over_n']:g} n, λ = {size['ridge']:g}")
        column[0].set_xlabel("scoring ridge γ / n")
        column[1].set(xlabel="k / min(n, p)", xticks=[0.0, 0.5, 1.0])
    panels[0][0].set_xscale("log")
    for axis in panels[:, 0]:
        axis.set_ylabel("LDS (Pearson)")
    handles = {
        label: handle for axis in panels[:, 0] for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
    return Drawing(figure, numbers, CAPTION.format_map(frame.iloc[0]) + data_sets(numbers).capitalize())


def _panel(axis: Axes, design: pd.DataFrame, curve: str, colour: str) -> None:
    points: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "white", "markeredgewidth": 0.8}
    shown = design[design["score"] == curve]
    data, law = (shown[shown["part"] == part] for part in ("data", "law"))
    axis.plot(law["at"], law["mean"], color=colour)
    axis.errorbar(
        data["at"], data["mean"], yerr=data["se"], color=colour, marker=MARKERS[0], label=CURVES[curve], **points
    )
    edge = law["at"].max() if curve == "kernel" else 1.0
    for place, (level, label) in enumerate(LEVELS.items(), start=2):
        flat = design[design["score"] == level].set_index("part")[["mean", "se"]]
        predicted, found = flat.loc["law"].to_numpy(float), flat.loc["data"].to_numpy(float)
        axis.axhline(predicted[0], color=COLOURS[place], linestyle="--" if level == "ceiling" else ":")
        axis.errorbar(
            [edge],
            found[:1],
            yerr=found[1:],
            color=COLOURS[place],
            marker=MARKERS[place],
            label=label,
            clip_on=False,
            **points,
        )
    axis.set_ylim(0.0, 1.0)
    axis.grid(axis="y")
