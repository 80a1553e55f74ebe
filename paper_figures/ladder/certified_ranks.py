"""Share of the order of the training points that is certified, against n, p/n and ridge."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.drawing.curves import shared_legend
from paper_figures.drawing.style import COLOURS, MARKERS, PAGE, Drawing, mean_and_error
from paper_figures.drawing.words import counted
from simulations.engine.store import Store
from simulations.engine.study import find_study
from simulations.studies.ladder.certified_ranks import AXES, CENTRE, CHORD_STEPS, REAL, SIGNAL

MEASURES = {"pairs_proved": "pairs proved", "relative_radius": "radius / |influence|"}
LABELS = {
    "size": "n\n(Gaussian)",
    "p_over_n": "p/n\n(Gaussian)",
    "ridge": "ridge\n(Gaussian)",
    "breast_cancer": "ridge\n(breast cancer)",
    "digits_3_vs_8": "ridge\n(digits 3 vs 8)",
}
PAIRS = ("one pair of products", "two pairs", "three pairs")


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("certified_ranks"))
    numbers = _numbers(frame)
    panels = list(LABELS)
    figure = Figure(figsize=(PAGE, 3.7), layout="constrained")
    grid = figure.subplots(len(MEASURES), len(panels), sharex="col", sharey="row", squeeze=False)
    for axes, (measure, label) in zip(grid, MEASURES.items(), strict=True):
        shown = numbers[numbers["measure"] == measure]
        for axis, panel in zip(axes, panels, strict=True):
            _panel(axis, shown[shown["panel"] == panel])
        axes[0].set_ylabel(label)
    grid[0][0].set_ylim(0, 1.02)
    grid[1][0].set_yscale("log")
    for axis, panel in zip(grid[1], panels, strict=True):
        axis.set_xlabel(LABELS[panel])
    shared_legend(figure, grid[0][0], len(PAIRS))
    return Drawing(figure, numbers, _caption(frame, numbers))


def _numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard error over replicates of each measure, along each axis that moves alone."""
    pieces = []
    for panel in LABELS:
        axis = panel if panel in AXES else "ridge"
        chosen = frame[frame["data"] == (panel if panel in REAL else "gaussian")]
        if panel in AXES:
            for other in set(CENTRE) - {panel}:
                chosen = chosen[chosen[other] == CENTRE[other]]
        grouped = chosen.rename(columns={axis: "x"}).groupby(["x", "chord_steps"])
        sizes = grouped[["n", "p"]].max().reset_index()
        for measure in MEASURES:
            summary = grouped[measure].apply(mean_and_error).unstack().reset_index()
            pieces.append(sizes.merge(summary, on=["x", "chord_steps"]).assign(panel=panel, measure=measure))
    return pd.concat(pieces, ignore_index=True).astype({"replicates": int})


def _panel(axis: Axes, numbers: pd.DataFrame) -> None:
    for steps, label in zip(CHORD_STEPS, PAIRS, strict=True):
        line = numbers[numbers["chord_steps"] == steps].sort_values("x")
        axis.errorbar(
            line["x"], line["mean"], line["se"].fillna(0.0), color=COLOURS[steps], marker=MARKERS[steps], label=label
        )
    axis.set_xscale("log")
    axis.grid(axis="y")


def _caption(frame: pd.DataFrame, numbers: pd.DataFrame) -> str:
    cells = frame[frame["chord_steps"] == CHORD_STEPS[0]]
    worst = cells.sort_values("pairs_proved").iloc[0]
    outside, entries = int(frame["outside"].sum()), int((frame["n"] * frame["queries"]).sum())
    return (
        "Certified leave-one-out influence of logistic regression. Top: share of the pairs of training points whose "
        "order the intervals prove. Bottom: median over points and queries of radius / |influence| (dimensionless). "
        "One pair of n × p products certifies the Newton point, each further pair one more chord step. Gaussian "
        f"features with signal {SIGNAL:g}: one of n = {CENTRE['size']}, p/n = {CENTRE['p_over_n']:g} and ridge "
        f"{CENTRE['ridge']:g} moves at a time. Ridge in the sum convention, none on the intercept of the real data. "
        f"Points and bars are mean ± s.e. over {counted(numbers['replicates'], 'data sets')} "
        "or random splits (bars smaller than a marker are "
        f"hidden), {frame['queries'].max()} held-out queries. Where too few points or too little ridge hold a "
        "direction the certificate is vacuous: at worst one pair of products proves "
        f"{worst['pairs_proved']:.0%} of the pairs (n = {worst['n']}, p = {worst['p']}, ridge {worst['ridge']:g}), "
        f"with {worst['void']:.0%} of the points without any radius. Of {entries:,} intervals {outside} miss the exact "
        "influence."
    )
