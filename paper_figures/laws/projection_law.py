"""Predicted error bars of TRAK scores against repeated projections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from paper_figures.drawing.curves import shared_legend
from paper_figures.drawing.style import COLOURS, GUIDE, MARKERS, PAGE, Drawing
from simulations.engine.store import Store
from simulations.engine.study import find_study

SUMMARY = ["features", "n", "p", "k", "k_over_n", "ridge_share", "draws", "spread_of_z", "spread_of_z_se", "coverage"]
BAND = 0.03


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("projection_law"))
    sweeps = frame.groupby("n")["k_over_n"].nunique()
    frame = frame[frame["n"] == sweeps.idxmax()]
    cells = frame[SUMMARY].drop_duplicates().reset_index(drop=True)
    figure = Figure(figsize=(PAGE, 2.7), layout="constrained")
    bars, spread, coverage = figure.subplots(1, 3)
    for place, (features, chosen) in enumerate(frame.groupby("features", sort=False)):
        bars.plot(
            chosen["predicted_sd"],
            chosen["simulated_sd"] / chosen["predicted_sd"],
            marker=MARKERS[place],
            color=COLOURS[place],
            linestyle="none",
            markersize=1.5,
            alpha=0.5,
        )
        for ridge, group in cells[cells["features"] == features].groupby("ridge_share"):
            style = {"marker": MARKERS[place], "color": COLOURS[place], "linestyle": "-" if ridge == 0 else "--"}
            face = COLOURS[place] if ridge == 0 else "white"
            label = f"{features}, μ {'= 0' if ridge == 0 else '> 0'}"
            spread.errorbar(
                group["k_over_n"],
                group["spread_of_z"],
                yerr=group["spread_of_z_se"],
                label=label,
                markerfacecolor=face,
                **style,
            )
            coverage.plot(group["k_over_n"], group["coverage"], markerfacecolor=face, **style)
    noise = 2 / np.sqrt(2 * (frame["draws"].iloc[0] - 1))
    bars.axhspan(1 - noise, 1 + noise, color="0.92", zorder=0)
    bars.set(xscale="log", xlabel="predicted standard deviation", ylabel="simulated / predicted")
    spread.axhspan(1 - BAND, 1 + BAND, color="0.92", zorder=0)
    spread.set(xlabel="k/n", ylabel="standard deviation of z-scores", ylim=(0.9, 1.1))
    coverage.axhline(0.95, color=GUIDE, zorder=0)
    coverage.set(xlabel="k/n", ylabel="coverage of 95 % intervals", ylim=(0.9, 1.0))
    shared_legend(figure, spread, 2)
    return Drawing(figure, cells, _caption(frame))


def _caption(frame: pd.DataFrame) -> str:
    first = frame.iloc[0]
    sizes = ", ".join(f"{name}: p = {group['p'].iloc[0]}" for name, group in frame.groupby("features", sort=False))
    return (
        f"The law of TRAK scores over random projections on digits features (n = {first['n']}; {sizes}; "
        f"{first['draws']} projections). Left: standard deviation of single scores over the projections, over the "
        "predicted one, each marker one score; band: ± 2 standard errors of a simulated one. Middle: standard "
        "deviation of all z-scores against k/n, with its standard error; band: ± 0.03. Right: share of scores within "
        "1.96 predicted standard deviations of their predicted mean. Filled: projected ridge μ = 0; open: μ = 0.03 "
        "tr(ΦΦᵀ)/n. Gradients are rotated to n + q coordinates, which leaves the law of normal projections as it is."
    )
