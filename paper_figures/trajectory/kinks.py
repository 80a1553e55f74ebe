"""What retraining a few samples repairs in networks with kinks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from paper_figures.drawing.curves import shared_legend, summary
from paper_figures.drawing.style import COLOURS, GUIDE, MARKERS, PAGE, Drawing
from paper_figures.drawing.words import counted
from simulations.engine.store import Store
from simulations.engine.study import find_study

MEASURES = {"spearman": "Spearman with retraining", "relative_error": "relative error"}


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("kinks"))
    numbers = summary(frame, ["family", "choice"], list(MEASURES))
    families, choices = (list(dict.fromkeys(frame[column])) for column in ("family", "choice"))
    figure = Figure(figsize=(PAGE, 2.6), layout="constrained")
    axes = figure.subplots(1, len(MEASURES))
    for axis, (measure, label) in zip(axes, MEASURES.items(), strict=True):
        for place, choice in enumerate(choices):
            own = numbers[(numbers["measure"] == measure) & (numbers["choice"] == choice)].set_index("family")
            own = own.loc[families]
            where = np.arange(len(families)) + 0.12 * (place - (len(choices) - 1) / 2)
            error = own["se"].fillna(0.0)
            axis.errorbar(where, own["mean"], yerr=error, fmt=MARKERS[place], color=COLOURS[place], label=choice)
        axis.set_xticks(range(len(families)), [name.replace("_", "\n") for name in families])
        axis.set(ylabel=label)
        axis.grid(axis="y")
    axes[0].axhline(0.9, color=GUIDE, linewidth=0.6, zorder=0)
    shared_legend(figure, axes[0], 3)
    first = frame.iloc[0]
    return Drawing(
        figure,
        numbers,
        f"Networks with kinks, AdamW at 1e-3, {first['steps']} steps, n = {first['n']}: frozen push, and the same with "
        f"{first['retrained']} samples retrained, chosen at random, by the size of their estimate, by its spread over "
        "runs from jittered starts, and by an oracle that knows the errors. Where even the oracle stays below .9, no "
        f"choice of so few samples can reach it. Mean ± s.e. over {counted(numbers['replicates'], 'runs')}.",
    )
