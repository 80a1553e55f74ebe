"""Answers to removals against the share of samples removed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from paper_figures.drawing.curves import bars, shared_legend
from paper_figures.drawing.style import GUIDE, PAGE

JITTER = 1.06  # between the answers of one share
APART = 2.4  # ratio of shares whose labels do not touch


def panels_by_share(numbers: pd.DataFrame, panel: list[str], answers: Sequence[str]) -> Figure:
    """One panel per value of the columns `panel`: fidelity of each answer, beside one another at each share."""
    panels = list(numbers.groupby(panel, sort=False))
    lines = -(-len(panels) // 4)
    columns = -(-len(panels) // lines)
    figure = Figure(figsize=(PAGE, 0.5 + 2.1 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
    for axis, (named, rows) in zip(axes, panels, strict=False):
        _answers(axis, rows, answers)
        axis.set_title(",\n".join(named))
    for axis in axes[len(panels) :]:
        axis.remove()
    for axis in axes[: len(panels) : columns]:
        axis.set_ylabel("Spearman with retraining")
    shared_legend(figure, axes[0], 4)
    return figure


def _label(share: float, following: float) -> str:
    """In per cent; none where the next label would touch it."""
    return f"{share:.0%}"[:-1] if following > APART * share else ""


def _answers(axis: Axes, numbers: pd.DataFrame, answers: Sequence[str]) -> None:
    for place, answer in enumerate(answers):
        rows = numbers[numbers["answer"] == answer].sort_values("share")
        beside = rows.assign(share=rows["share"] * JITTER ** (place - len(answers) // 2))
        bars(axis, beside, x="share", place=place, label=answer)
    axis.axhline(1.0, color=GUIDE, zorder=0)
    axis.set_xscale("log")
    shares = sorted(set(numbers["share"]))
    axis.xaxis.set_major_locator(FixedLocator(shares))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xticklabels(["one", *(_label(*pair) for pair in pairwise([*shares[1:], np.inf]))])
    axis.set_xlabel("removed (%)")
    axis.grid(axis="y")
