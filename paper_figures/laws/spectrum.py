"""Agreement over the projected dimension for flat, decaying and spiked spectra."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.drawing.curves import data_sets, shared_legend, simulated, summary
from paper_figures.drawing.style import COLOURS, PAGE, Drawing
from simulations.engine.store import Store
from simulations.engine.study import find_study

MEASURES = {"kendall": "Kendall's τ", "pearson": "Pearson", "slope": "slope ⟨I, T⟩/⟨I, I⟩"}
LABELS = {
    "isotropic": "flat",
    "decay 0.8": r"$s \propto j^{-0.8}$",
    "decay 1.2": r"$s \propto j^{-1.2}$",
    "spiked": "5 spikes of 20",
    "dominant": "1 spike of p",
}
CAPTION = (
    "Agreement of TRAK with exact leave-one-out influence against the projected dimension k for five spectra of "
    "the features, all with mean eigenvalue 1: predicted with nothing fitted (lines), simulated (points); "
    "dimensionless. Logistic regression, n = {n:,}, p = {p:,}, signal {signal:g}, "
    "ridge λ = {ridge:g} (sum convention), projected ridge μ = {projected_ridge:g}, one "
    "projection. Where the spectrum decays, an implicit ridge far below λ amplifies the tail, and agreement falls "
    "as k grows. Means over {queries} queries; "
)


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("spectrum"))
    frame = frame[frame["n"] == frame["n"].max()]
    order = ["covariance", "part", "k"]
    numbers = summary(frame, order, list(MEASURES)).sort_values(order, ignore_index=True)
    figure = Figure(figsize=(PAGE, 2.3), layout="constrained")
    for axis, (measure, label) in zip(figure.subplots(1, len(MEASURES)), MEASURES.items(), strict=True):
        _panel(axis, numbers[numbers["measure"] == measure])
        axis.set_title(label)
        axis.set_xlabel("k")
    figure.axes[-1].set_yscale("log")
    shared_legend(figure, figure.axes[0])
    return Drawing(figure, numbers, CAPTION.format_map(frame.iloc[0]) + data_sets(numbers))


def _panel(axis: Axes, numbers: pd.DataFrame) -> None:
    for place, (covariance, label) in enumerate(LABELS.items()):
        series = numbers[numbers["covariance"] == covariance]
        data, law = (series[series["part"] == part] for part in ("data", "law"))
        axis.plot(law["k"], law["mean"], color=COLOURS[place])
        simulated(axis, data, x="k", place=place, label=label)
    axis.set_xlim(left=0.0)
    axis.grid(axis="y")
