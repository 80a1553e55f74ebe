"""The four pairs of truth and estimate under the two removal conventions."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from paper_figures.drawing.curves import curves, summary
from paper_figures.drawing.style import COLUMN, Drawing
from paper_figures.drawing.words import counted
from simulations.engine.store import Store
from simulations.engine.study import find_study

PAIRS = {
    "keep/truth": "the two truths",
    "keep/renormalise": "renormalised estimate, kept truth",
    "renormalise/keep": "kept estimate, renormalised truth",
    "keep/keep": "both kept",
    "renormalise/renormalise": "both renormalised",
}


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("removal_convention"))
    frame = frame.assign(pair=frame["truth"] + "/" + frame["estimate"])
    numbers = summary(frame, ["batch", "pair"], ["relative_error"])
    figure = Figure(figsize=(COLUMN, 3.2), layout="constrained")
    axis = figure.subplots()
    curves(axis, numbers, x="batch", group="pair", labels=PAIRS)
    sizes = sorted(set(numbers["batch"]))
    axis.set(xscale="log", yscale="log", xlabel="batch size |B|", ylabel="relative error")
    axis.set_xticks(sizes, [str(size) for size in sizes])
    errors = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5]
    axis.set_yticks(errors, [f"{error:g}" for error in errors])
    axis.set_ylim(0.8 * numbers["mean"].min(), 1.3 * numbers["mean"].max())
    axis.minorticks_off()
    figure.legend(loc="outside lower center", ncols=1)
    first = frame.iloc[0]
    caption = (
        "Mixing removal conventions is an error of its own. A removed sample leaves the batch mean's denominator at "
        "|B| (kept), or the mean is taken over the |B| − 1 others (renormalised). AdamW at learning rate "
        f"{first['learning_rate']:g}, three epochs of n = {first['n']} digits, two-step push (ours) against "
        f"retraining; query: mean held-out loss. Mean ± s.e. over {counted(numbers['replicates'], 'runs')}; log axes."
    )
    return Drawing(figure, numbers, caption)
