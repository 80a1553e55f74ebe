"""Agreement over the projected dimension for flat, decaying and spiked spectra."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.drawing.curves import data_sets, shared_legend, simulated
from paper_figures.drawing.style import COLOURS, PAGE, Drawing, mean_and_error
from simulations.engine.store import Store
from simulations.engine.study import find_study

MEASURES = {"kendall": "Kendall's τ", "pearson": "Pearson", "slope": "slope ⟨I, T⟩/⟨I, I⟩"}
LABELS = {
    "isotropic": "flat",
    "decay 0.8": "s ∝ j^−0.8",
    "decay 1.2": "s ∝ j^−1.2",
    "spiked": "5 spikes of 20",
    "dominant": "1 spike of p",
}


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("spectrum"))
    frame = frame[frame["n"] == frame["n"].max()]
    order = ["covariance", "part", "k"]
    pieces = [
        frame.groupby(order)[measure].apply(mean_and_error).unstack().reset_index().assign(measure=measure)
        for measure in MEASURES
    ]
    numbers = pd.concat(pieces, ignore_index=True).astype({"replicates": int})
    figure = Figure(figsize=(PAGE, 2.3), layout="constrained")
    for axis, (measure, label) in zip(figure.subplots(1, len(MEASURES)), MEASURES.items(), strict=True):
        _panel(axis, numbers[numbers["measure"] == measure])
        axis.set_title(label)
        axis.set_xlabel("k")
    figure.axes[-1].set_yscale("log")
    shared_legend(figure, figure.axes[0])
    return Drawing(figure, numbers, _caption(frame, numbers))


def _panel(axis: Axes, numbers: pd.DataFrame) -> None:
    for place, (covariance, label) in enumerate(LABELS.items()):
        series = numbers[numbers["covariance"] == covariance]
        data, law = (series[series["part"] == part] for part in ("data", "law"))
        axis.plot(law["k"], law["mean"], color=COLOURS[place])
        simulated(axis, data, x="k", place=place, label=label)
    axis.set_xlim(left=0.0)
    axis.grid(axis="y")


def _caption(frame: pd.DataFrame, numbers: pd.DataFrame) -> str:
    first = frame.iloc[0]
    return (
        "Agreement of TRAK with exact leave-one-out influence against the projected dimension k for five spectra of "
        "the features, all with mean eigenvalue 1: predicted with nothing fitted (lines), simulated (points); "
        f"dimensionless. Logistic regression, n = {first['n']:,}, p = {first['p']:,}, signal {first['signal']:g}, "
        f"ridge λ = {first['ridge']:g} (sum convention), projected ridge μ = {first['projected_ridge']:g}, one "
        "projection. Where the spectrum decays, an implicit ridge far below λ amplifies the tail, and agreement falls "
        f"as k grows. Means over {first['queries']} queries; " + data_sets(numbers)
    )
