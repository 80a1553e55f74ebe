"""LDS of restored influence against the dimension of the sketch, for one to three curvature directions a sample."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from paper_figures.drawing.curves import bars, lds_by_recipe, summary
from paper_figures.drawing.style import COLOURS, Drawing
from paper_figures.drawing.words import counted
from simulations.engine.store import Store
from simulations.engine.study import find_study
from simulations.studies.retraining.sketched_restored import BLOCK, DIRECTIONS, LAYERS, TRAK, directions, of_layer

CURVES = [(TRAK, 1), *((directions(count), sketches) for count in DIRECTIONS for sketches in (1, 2))]
LINES = {"first layer alone": "-.", "last layer alone": ":"}


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("sketched_restored"))
    frame = frame[(frame["n"] == frame["n"].max()) & (frame["kind"] != "normal")]
    frame = frame.assign(sketches=frame["sketches"].fillna(1.0).astype(int))
    numbers = summary(frame, ["recipe", "answer", "k", "sketches"], ["lds"])
    figure = lds_by_recipe(numbers, _sketches, columns=3)
    return Drawing(figure, numbers, _caption(frame, numbers))


def _sketches(axis: Axes, numbers: pd.DataFrame) -> None:
    for place, (answer, sketches) in enumerate(CURVES):
        chosen = numbers[(numbers["answer"] == answer) & (numbers["k"] > 0) & (numbers["sketches"] == sketches)]
        label = answer if answer == TRAK else f"{answer}, {sketches} sketch{'es' if sketches > 1 else ''}"
        bars(axis, chosen.sort_values("k"), x="k", place=place, label=label)
    two = COLOURS[CURVES.index((directions(2), 1))]
    lines = (BLOCK, "-", "0.4"), (directions(2), "--", two), *((of_layer(layer), LINES[layer], two) for layer in LAYERS)
    for answer, line, colour in lines:
        level = numbers[(numbers["answer"] == answer) & (numbers["k"] == 0)]["mean"].item()
        axis.axhline(level, color=colour, linestyle=line, linewidth=0.8, label=f"{answer}, no sketch", zorder=0)
    axis.set_xscale("log", base=2)
    axis.set_xticks(sorted(set(numbers["k"]) - {0}), labels=[str(k) for k in sorted(set(numbers["k"]) - {0})])
    axis.minorticks_off()
    axis.set_xlabel("dimension k of the sketch")
    axis.grid(axis="y")


def _caption(frame: pd.DataFrame, numbers: pd.DataFrame) -> str:
    first = frame.iloc[0]
    return (
        f"Linear datamodelling score on 64-{first['hidden']}-10 ReLU networks, {first['n']} digits, p = {first['p']}, "
        f"{first['subsets']} random half subsets, {first['queries']} queries, against the dimension k of a "
        "CountSketch, for TRAK with the ridge of the rule and for restored influence with one to three curvature "
        f"directions of each sample's loss; mean over {counted(numbers['replicates'], 'networks')} "
        "± s.e. over networks. Lines: "
        "without a sketch, with the full softmax block (solid) and with two directions through all parameters "
        "(dashed), those of the first layer (dash-dotted) and those of the last (dotted). Dimensionless."
    )
