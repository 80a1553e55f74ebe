"""Errors of executing a sweep, beside the error that the estimate has anyway."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from paper_figures.drawing.curves import ESTIMATORS, shared_legend, summary
from paper_figures.drawing.style import COLOURS, GUIDE, MARKERS, PAGE, Drawing
from paper_figures.drawing.words import counted
from simulations.engine.store import Store
from simulations.engine.study import find_study

LOWEST, HIGHEST = 1e-16, 1e2


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("system_level"))
    rate = sorted(set(frame["learning_rate"]))[len(set(frame["learning_rate"])) // 2]
    frame = frame[(frame["learning_rate"] == rate) & frame["estimator"].isin(["first-order", "two-step"])]
    numbers = summary(frame[frame["finite"]], ["eps", "estimator", "variant"], ["relative_error"])
    variants = list(dict.fromkeys(frame["variant"]))
    failed = frame[~frame["finite"]][["eps", "estimator", "variant"]].drop_duplicates()
    sizes = sorted(set(frame["eps"]))
    figure = Figure(figsize=(PAGE, 4.0), layout="constrained")
    axes = figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    for axis, eps in zip(axes, sizes, strict=True):
        for place, estimator in enumerate(("first-order", "two-step")):
            chosen = numbers[(numbers["eps"] == eps) & (numbers["estimator"] == estimator)]
            height = np.array([variants.index(name) for name in chosen["variant"]]) + (place - 0.5) * 0.3
            marks = {"linestyle": "none", "color": COLOURS[place], "clip_on": False}
            value = np.clip(chosen["mean"], LOWEST, HIGHEST)
            axis.plot(value, height, marker=MARKERS[place], label=ESTIMATORS[estimator], **marks)
            own = frame[(frame["eps"] == eps) & (frame["estimator"] == estimator)]["truth_error"].mean()
            axis.axvline(own, color=COLOURS[place], linewidth=0.6, linestyle=":", zorder=0)
        for name in set(failed[failed["eps"] == eps]["variant"]):
            axis.text(1.0, variants.index(name), "NaN", va="center", ha="center", color="0.4")
        axis.set(xscale="log", xlim=(LOWEST, HIGHEST), title=f"ε = {eps:g}", xlabel="relative change of the influence")
        axis.set_xticks([1e-15, 1e-10, 1e-5, 1.0])
        axis.set_yticks(range(len(variants)), variants)
        axis.set_ylim(len(variants) - 0.5, -0.5)
        axis.grid(axis="x", color=GUIDE, linewidth=0.3)
    shared_legend(figure, axes[0], 2)
    first = frame.iloc[0]
    caption = (
        "What the execution of a sweep costs: relative change of the influence of n = "
        f"{first['n']} digits against the float64 sweep of the float64 run (AdamW at learning rate {rate:g}, tanh "
        f"network, p = {first['p']}, |B| = {first['batch']}, {first['steps']} steps). Sweep: states rounded before the "
        "sweep; run: trained in that precision; other order: the same batches, summed in another order; checkpoints "
        "every c: only every c-th state saved, in that precision, the others replayed in float64. Dotted: the error "
        f"that the estimate has against retraining anyway. Log axis, cut at {LOWEST:g} and {HIGHEST:g}; NaN: not "
        "finite. Half precision fails by its range: v underflows to 0, and the step divides by ε. Means over "
        f"{counted(numbers['replicates'], 'runs')}, "
        "without bars on an axis of eighteen decades; standard errors are in the numbers."
    )
    return Drawing(figure, numbers, caption)
