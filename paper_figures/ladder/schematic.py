"""The ladder as a drawing: each step's formula, and beside it what the step costs in rank agreement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from paper_figures.drawing.style import COLOURS, GUIDE, MARKERS, PAGE, Drawing, mean_and_error
from paper_figures.drawing.words import counted
from simulations.engine.store import Store
from simulations.engine.study import find_study

DATA, COMPRESSION = "digits_3_vs_8", 0.5
KERNEL = r"\phi_i^{\mathrm{T}} H^{-1}\phi_j^*"
PROJECTED = r"\phi_i^{\mathrm{T}} P(P^{\mathrm{T}}\Phi^{\mathrm{T}}\Phi P)^{-1}P^{\mathrm{T}}\phi_j^*"
FORMULAS = {
    "exact": r"$f_j(\hat\theta) - f_j(\hat\theta_{-i})$",
    "newton": rf"$-r_i\,{KERNEL}\,/\,(1-h_i)$",
    "influence": rf"$-r_i\,{KERNEL}$",
    "unit curvature": r"$-r_i\,\phi_i^{\mathrm{T}}(\Phi^{\mathrm{T}}\Phi+\lambda I)^{-1}\phi_j^*$",
    "no ridge": r"$-r_i\,\phi_i^{\mathrm{T}}(\Phi^{\mathrm{T}}\Phi)^{-1}\phi_j^*$",
    "projected": rf"$-r_i K_P,\quad K_P={PROJECTED}$",
    "ensemble": r"$-r_i\,\langle K_P\rangle_P$",
    "models": r"$-\langle r_i K_P\rangle_{\mathrm{models}}$",
    "mean factors": r"$-\langle r_i\rangle_{\mathrm{models}}\,\langle K_P\rangle_{\mathrm{models}}$",
    "as released": "the same, rounded and scaled",
}
GIVEN_UP = {
    "newton": "the minimiser: one Newton step instead",
    "influence": "the leverage $h_i$",
    "unit curvature": "the curvature: $D \\to I$ in $H = \\Phi^{\\mathrm{T}} D\\,\\Phi + \\lambda I$",
    "no ridge": "the ridge $\\lambda$",
    "projected": "all but k random dimensions",
    "ensemble": "gained back: the mean over projections",
    "models": "the fitted model: models on random halves",
    "mean factors": "products of one model: means of factors",
    "as released": "precision, and the common scale",
}
NAMES = {"exact": "exact leave-one-out", "newton": "Newton", "as released": "TRAK as released"}
TINTS = {True: "#D9E8F5", False: "#FBE3D3"}  # rungs that know the model's Hessian, and TRAK's
WITH_HESSIAN = ("exact", "newton", "influence")
ARROW = {"arrowstyle": "-|>", "linewidth": 0.8, "color": "0.25"}
HALF = 0.27  # of the height of a box, in rungs


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("ladder"))
    frame = frame[(frame["data"] == DATA) & (frame["k_over_p"] == COMPRESSION) & (frame["against"] == "exact")]
    numbers = _numbers(frame)
    figure = Figure(figsize=(PAGE, 6.6), layout="constrained")
    boxes, costs = figure.subplots(1, 2, sharey=True, width_ratios=[1.6, 1])
    _boxes(boxes)
    _costs(costs, numbers)
    boxes.set_ylim(len(FORMULAS) - 0.6, -0.4)
    return Drawing(figure, numbers, _caption(frame, numbers))


def _numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """Kendall of each rung with the exact influence, and its difference from the rung above on the same split."""
    table = frame.pivot(index=["seed", "replicate"], columns="rung", values="kendall").assign(exact=1.0)[list(FORMULAS)]
    levels, steps = table.apply(mean_and_error).T, table.diff(axis=1).apply(mean_and_error).T
    joined = levels.assign(step=steps["mean"], step_se=steps["se"]).rename_axis("rung").reset_index()
    return joined.astype({"replicates": int})


def _boxes(axis: Axes) -> None:
    for place, (rung, formula) in enumerate(FORMULAS.items()):
        tint = TINTS[rung in WITH_HESSIAN]
        box = FancyBboxPatch((0.0, place - HALF), 1.0, 2 * HALF, boxstyle="round,pad=0,rounding_size=0.04", zorder=0)
        box.set(facecolor=tint, edgecolor="0.6", linewidth=0.6, mutation_aspect=3.0)
        axis.add_patch(box)
        axis.text(0.03, place, NAMES.get(rung, rung), va="center", weight="bold")
        axis.text(0.97, place, formula, va="center", ha="right")
        if rung in GIVEN_UP:
            axis.annotate("", (0.05, place - HALF), (0.05, place - 1 + HALF), arrowprops=ARROW)
            axis.text(0.09, place - 0.5, GIVEN_UP[rung], va="center", color="0.25")
    axis.set(xlim=(-0.01, 1.01))
    axis.set_axis_off()


def _costs(axis: Axes, numbers: pd.DataFrame) -> None:
    places = np.arange(len(numbers))
    axis.plot(numbers["mean"], places, color=GUIDE, zorder=1)
    for known, colour, marker in ((True, COLOURS[0], MARKERS[0]), (False, COLOURS[1], MARKERS[1])):
        own = numbers["rung"].isin(WITH_HESSIAN) == known
        axis.errorbar(
            numbers["mean"][own],
            places[own],
            xerr=numbers["se"][own].fillna(0.0),
            color=colour,
            marker=marker,
            linestyle="none",
        )
    for place, row in enumerate(numbers.itertuples()):
        if place:
            axis.text(1.35, place - 0.5, _signed(row.step), va="center", ha="right")
    axis.set(xlim=(0, 1.37), xlabel="Kendall's τ with exact,   and its change")
    axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
    axis.tick_params(axis="y", left=False, labelleft=False)
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x")


def _signed(change: float) -> str:
    """Three digits with a sign, and none on zero."""
    text = f"{change:+.3f}"
    return "0" if float(text) == 0 else text.replace("-", "−")


def _caption(frame: pd.DataFrame, numbers: pd.DataFrame) -> str:
    first = frame.iloc[0]
    return (
        "From retraining without point i down to TRAK as released: each rung gives up one more thing than the rung "
        "above it. Left: formulas of the effect of point i on query j (presence sign): gradients φ, residual r, "
        "curvature D, leverage h, ridge λ (sum convention), P a random p × k matrix, ⟨·⟩ a mean. Blue rungs know the "
        "Hessian H of the model, orange ones do not. Right: Kendall's τ with the exact influence and its paired "
        f"change at each step; digits 3 against 8, logistic regression, n = {first['n']}, p = {frame['p'].max()}, k = "
        f"{frame['k'].max()} (the largest over splits), λ = {first['ridge']:g}, no projected ridge, "
        f"{first['ensemble']} projections, {first['ensemble']} models; mean ± s.e. over "
        f"{counted(numbers['replicates'], 'random splits')} and projections (bars shorter than a marker are hidden; "
        "the changes have standard errors of at most "
        f"{numbers['step_se'].max():.3f}), {first['queries']} queries."
    )
