"""Fidelity of every answer to a removal against the share of samples removed."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from paper_figures.drawing.curves import bars, replicates, shared_legend, summary
from paper_figures.drawing.style import GUIDE, PAGE, Drawing
from simulations.engine.store import Store
from simulations.engine.study import find_study
from simulations.studies.retraining.share_removed import ANSWERS

PANEL = ["activation", "recipe"]
SHOWN = [answer for answer in ANSWERS if answer != "leave-one-out Newton"]  # below restored influence; in the table
JITTER = 1.06  # between the answers of one share


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("share_removed"))
    frame = frame[frame["n"] == frame["n"].max()]
    numbers = summary(frame, [*PANEL, "share", "answer"], ["fidelity"])
    panels = list(numbers.groupby(PANEL, sort=False))
    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(PAGE, 0.5 + 2.1 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
    for axis, ((activation, recipe), rows) in zip(axes, panels, strict=False):
        _answers(axis, rows)
        axis.set_title(f"{activation}, {recipe}")
    for axis in axes[len(panels) :]:
        axis.remove()
    for axis in axes[: len(panels) : columns]:
        axis.set_ylabel("Spearman with retraining")
    shared_legend(figure, axes[0], 4)
    return Drawing(figure, numbers, _caption(frame, numbers))


def _answers(axis: Axes, numbers: pd.DataFrame) -> None:
    for place, answer in enumerate(SHOWN):
        rows = numbers[numbers["answer"] == answer].sort_values("share")
        beside = rows.assign(share=rows["share"] * JITTER ** (place - len(SHOWN) // 2))
        bars(axis, beside, x="share", place=place, label=answer)
    axis.axhline(1.0, color=GUIDE, zorder=0)
    axis.set_xscale("log")
    shares = sorted(set(numbers["share"]))
    axis.xaxis.set_major_locator(FixedLocator(shares))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xticklabels(["one", *(f"{share:.0%}"[:-1] for share in shares[1:])])
    axis.set_xlabel("removed (%)")
    axis.grid(axis="y")


def _caption(frame: pd.DataFrame, numbers: pd.DataFrame) -> str:
    first = frame.iloc[0]
    sizes = " and ".join(f"{p}" for p in sorted(set(frame["p"])))
    return (
        f"Spearman correlation over {first['sets']} removed sets of the margins of {first['queries']} held-out digits, "
        "predicted without retraining and retrained in the same order with batches as means of what is left, less its "
        f"small-sample bias, against the share removed (one: a single sample of n = {first['n']}); p = {sizes}. First "
        "order, two-step, frozen push, restored influence: sums over the removed samples. Twin: the linear "
        "model of all ten logits, refitted. Two-step and twin: the two-step sum and what the twin's refit says beyond "
        "the sum of its own removals of one sample. Without Adam, first order, two-step and frozen push coincide. Mean "
        f"over queries and {replicates(numbers)} networks ± s.e. over networks. Dimensionless."
    )
