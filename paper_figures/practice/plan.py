"""Predictions of a plan for every k within a budget, beside what TRAK reaches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from paper_figures.drawing.curves import bars, shared_legend
from paper_figures.drawing.style import GUIDE, PAGE, Drawing
from simulations.engine.store import Store
from simulations.engine.study import find_study

LABELS = {"best ridge": "ridge of the plan", "no ridge": "μ = 0"}


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("plan"))
    frame = frame[frame["n"] == frame["n"].max()]
    budgets = sorted(frame["budget"].unique())
    figure = Figure(figsize=(PAGE, 2.6), layout="constrained")
    for axis, budget in zip(np.atleast_1d(figure.subplots(1, len(budgets), sharey=True)), budgets, strict=True):
        chosen = frame[frame["budget"] == budget]
        planned = chosen[chosen["setting"] == "best ridge"].sort_values("k")
        axis.plot(planned["k"], planned["predicted"], color="black", label="predicted")
        for place, (setting, label) in enumerate(LABELS.items()):
            group = chosen[chosen["setting"] == setting]
            bars(axis, group, x="k", y="simulated", place=place, label=f"simulated, {label}", linestyle="none")
        for row in planned.itertuples():
            axis.annotate(
                f"J = {row.ensemble}", (row.k, row.predicted), xytext=(0, 6), textcoords="offset points", ha="center"
            )
        axis.axhline(planned["limit"].iloc[0], color=GUIDE, zorder=0)
        axis.set_xscale("log")
        axis.set_xticks(planned["k"].to_list(), [str(k) for k in planned["k"]])
        axis.minorticks_off()
        axis.margins(x=0.12, y=0.12)
        axis.set_title(f"budget k·J = {budget}")
        axis.set_xlabel("projected dimension k")
    figure.axes[0].set_ylabel("Kendall's τ with the reference")
    shared_legend(figure, figure.axes[0], 3)
    first = frame.iloc[0]
    caption = (
        f"Planning for digits-network gradients (n = {first['n']}). Kendall's τ with a fixed reference, the "
        "curvature-weighted influence at the ridge of the recipe for retraining on half subsets. Black: predicted at "
        f"the best μ; markers: mean ± s.e. over {first['draws']} draws of TRAK. Grey line: the best unprojected "
        "unit-curvature kernel. Same μ, no projection: agreement with the same-γ kernel is not the objective."
    )
    columns = ["n", "budget", "setting", "k", "ensemble", "ridge", "predicted", "simulated", "simulated_se", "limit"]
    return Drawing(figure, frame[columns].reset_index(drop=True), caption)
