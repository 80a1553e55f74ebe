"""Predicted Kendall's τ over model size and projected dimension, with simulated points in the same colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure

from paper_figures.drawing.style import PAGE, Drawing
from simulations.engine.store import Store
from simulations.engine.study import find_study

LEVELS = np.linspace(0.0, 1.0, 21)
SERIES = ["ensemble", "projected_ridge_over_n"]


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("phase"))
    frame = frame[frame["n"] == frame["n"].max()]
    order = [*SERIES, "part", "p_over_n", "step", "k_over_p"]
    numbers = frame.groupby(order)["kendall"].agg(["mean", "sem", "size"]).reset_index()
    figure = Figure(figsize=(PAGE, 2.6), layout="constrained")
    settings = list(numbers.groupby(SERIES))
    axes = figure.subplots(1, len(settings), sharey=True)
    for axis, ((ensemble, ridge), series) in zip(axes, settings, strict=True):
        shades = _panel(axis, series)
        axis.set_title(f"J = {ensemble}, μ = {ridge:g} n" if ridge else f"J = {ensemble}, μ = 0")
        axis.set_xlabel("p / n")
    axes[0].set_ylabel("k / p")
    figure.colorbar(shades, ax=axes, label="Kendall's τ", ticks=LEVELS[::4])
    return Drawing(figure, numbers, _caption(frame, numbers))


def _panel(axis: Axes, series: pd.DataFrame) -> QuadContourSet:
    law = series[series["part"] == "law"].reset_index()
    heights, values = (law.pivot(index="step", columns="p_over_n", values=name) for name in ("k_over_p", "mean"))
    ratios = np.broadcast_to(heights.columns, heights.shape)
    shades = axis.contourf(ratios, heights, values, levels=LEVELS, cmap="viridis")
    axis.contour(ratios, heights, values, levels=LEVELS[2::2], colors="white", linewidths=0.4)
    data = series[series["part"] == "data"]
    axis.scatter(
        data["p_over_n"],
        data["k_over_p"],
        c=data["mean"],
        cmap="viridis",
        vmin=LEVELS[0],
        vmax=LEVELS[-1],
        s=22,
        edgecolors="white",
        linewidths=0.8,
        zorder=3,
    )
    if series["projected_ridge_over_n"].iloc[0] == 0:
        wide = np.geomspace(1.0, ratios.max())
        axis.plot(wide, 1.0 / wide, color="black", linestyle=":", linewidth=0.8)
    axis.set_xscale("log")
    axis.set_xticks([0.1, 0.3, 1.0, 3.0], ["0.1", "0.3", "1", "3"])
    axis.minorticks_off()
    axis.set_ylim(0.0, 1.0)
    return shades


def _caption(frame: pd.DataFrame, numbers: pd.DataFrame) -> str:
    first, data, law = frame.iloc[0], *(numbers[numbers["part"] == part] for part in ("data", "law"))
    return (
        "Kendall's τ between TRAK and exact leave-one-out influence over model size p/n and projected dimension k/p: "
        "predicted with nothing fitted (shades; contours every 0.1), simulated (discs in the same colours, mean over "
        f"{data['size'].max()} data sets, s.e. at most {data['sem'].max():.3f}). Logistic regression on n = "
        f"{first['n']:,} points x ~ N(0, I_p), signal {first['signal']:g}, ridge λ = {first['ridge_over_n']:g} n (sum "
        "convention), J projections averaged, projected ridge μ; the law needs the proportions only. Above the dotted "
        "line k = n no law exists without a projected ridge (white). Predicted from "
        f"{law['mean'].min():.2f} to {law['mean'].max():.2f}."
    )
