"""The a-priori law against simulation: four measures of agreement over the projected dimension."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.drawing.curves import data_sets, shared_legend, simulated, summary
from paper_figures.drawing.style import COLOURS, GUIDE, PAGE, Drawing
from simulations.engine.store import Store
from simulations.engine.study import find_study

MEASURES = {"pearson": "Pearson", "kendall": "Kendall's τ", "spearman": "Spearman", "slope": "slope ⟨I, T⟩/⟨I, I⟩"}
DESIGN = ["p_over_n", "n", "p", "ridge"]
SERIES = ["ensemble", "projected_ridge"]
CAPTION = (
    "Agreement of TRAK with exact leave-one-out influence, predicted with nothing fitted (lines) and simulated "
    "(points), against the projected dimension k as a share of p; all dimensionless. Logistic regression on "
    "n = {n:,} points x ~ N(0, I_p), signal ‖θ*‖ = {signal:g}, ridge λ in the sum convention; "
    "J projections averaged, projected ridge μ. Where p > n the dotted line is k = n: without a projected ridge "
    "the agreement dips there. Means over {queries} queries; "
)


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("rank_law"))
    frame = frame[frame["n"] == frame["n"].max()]
    numbers = _numbers(frame)
    designs = [design for _, design in numbers.groupby("p_over_n")]
    figure = Figure(figsize=(PAGE, 1.6 * len(designs)), layout="constrained")
    panels = figure.subplots(len(designs), len(MEASURES), sharex="row", squeeze=False)
    for axis, label in zip(panels[0], MEASURES.values(), strict=True):
        axis.set_title(label)
    for axes, design in zip(panels, designs, strict=True):
        for axis, measure in zip(axes, MEASURES, strict=True):
            _panel(axis, design[design["measure"] == measure])
        size = design.iloc[0]
        axes[0].set_ylabel(f"p = {size['p']} = {size['p_over_n']:g} n\nλ = {size['ridge']:g}")
    for axis in panels[-1]:
        axis.set_xlabel("k / p")
    shared_legend(figure, panels[0][0])
    return Drawing(figure, numbers, CAPTION.format_map(frame.iloc[0]) + data_sets(numbers))


def _numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """Law and data, mean and standard error over data sets, for each design, setting, k and measure."""
    order = [*DESIGN, *SERIES, "part", "k"]
    numbers = summary(frame, order, list(MEASURES)).sort_values(order, ignore_index=True)
    return numbers.assign(k_over_p=numbers["k"] / numbers["p"])


def _panel(axis: Axes, numbers: pd.DataFrame) -> None:
    for place, ((ensemble, ridge), series) in enumerate(numbers.groupby(SERIES)):
        data, law = (series[series["part"] == part] for part in ("data", "law"))
        label = f"J = {ensemble}, μ = {ridge:g}"
        axis.plot(law["k_over_p"], law["mean"], color=COLOURS[place])
        simulated(axis, data, x="k_over_p", place=place, label=label)
    n_over_p = 1.0 / numbers["p_over_n"].iloc[0]
    if n_over_p < 1:
        axis.axvline(n_over_p, color=GUIDE, linestyle=":", linewidth=0.8)
    axis.set_ylim(bottom=0.0)
    axis.set_xlim(left=0.0)
    axis.grid(axis="y")
