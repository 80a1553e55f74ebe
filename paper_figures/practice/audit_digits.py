"""Predictions of an audit for scores of a digits network, beside fresh projections."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from paper_figures.drawing.curves import bars, shared_legend
from paper_figures.drawing.style import COLOURS, GUIDE, PAGE, Drawing
from simulations.engine.store import Store
from simulations.engine.study import find_study

PANELS = ("Kendall", "Pearson", "top overlap", "coverage")


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("audit_digits"))
    frame = frame[(frame["n"] == frame["n"].max()) & frame["measure"].isin(PANELS)]
    figure = Figure(figsize=(PAGE, 2.5), layout="constrained")
    ridges = sorted(frame["regularization"].unique())
    for axis, measure in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for place, value in enumerate(ridges):
            group = frame[(frame["measure"] == measure) & (frame["regularization"] == value)].sort_values("k")
            axis.plot(group["k"], group["predicted"], color=COLOURS[place], marker="none")
            label = f"regularization {value:g} (× p)"
            bars(axis, group, x="k", y="measured", place=place, label=label, linestyle="none")
        axis.set_xscale("log")
        sizes = sorted(frame["k"].unique())
        axis.set_xticks(sizes, [str(k) if place % 2 == 0 else "" for place, k in enumerate(sizes)])
        axis.minorticks_off()
        axis.set_xlabel("dimension k")
        axis.set_title("95 % coverage" if measure == "coverage" else measure)
        axis.grid(axis="y", color=GUIDE, alpha=0.4)
    figure.axes[-1].set_ylim(0.9, 1.0)
    shared_legend(figure, figure.axes[0], 2)
    first = frame.iloc[0]
    caption = (
        f"An audit of TRAK scores of a 64-{first['hidden']}-10 digits network (n = {first['n']}, {first['queries']} "
        "queries): lines are predicted from the gradients alone, markers are mean ± s.e. over "
        f"{first['draws']} fresh normal projections in double precision. Kendall and Pearson with the unprojected "
        "kernel at the same implicit ridge; top overlap between two projections (largest n/20 scores); "
        "right: coverage of 95 % intervals."
    )
    columns = ["n", "k", "regularization", "measure", "predicted", "measured", "measured_se"]
    return Drawing(figure, frame[columns].reset_index(drop=True), caption)
