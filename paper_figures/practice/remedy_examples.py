"""Training images for held-out digits: those of exact leave-one-out, of TRAK with the rule's ridge, and without one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray as Array

from paper_figures.drawing.style import COLOURS, PAGE, Drawing
from simulations.engine.store import Store
from simulations.engine.study import find_study
from simulations.studies.practice.remedy_examples import DIGIT, EXACT, RELEASED, RULED, TOP
from simulations.workloads.data import digits

ANSWERS = (EXACT, RULED, RELEASED)
ASKED = 5  # queries shown: the first of the first split, whatever they show
SHARED, OTHER = COLOURS[0], "0.8"  # frames of images that exact leave-one-out names too, and of others


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("remedy_examples"))
    shown = frame[(frame["replicate"] == frame["replicate"].min()) & (frame["query"] < ASKED)]
    shown = shown[shown["seed"] == shown["seed"].iloc[0]].assign(named=_named_by_exact(shown)).reset_index(drop=True)
    figure = Figure(figsize=(PAGE, 0.62 * ASKED + 0.3), layout="constrained")
    parts = figure.subfigures(
        1, 1 + len(ANSWERS), width_ratios=[1.25, *[TOP] * len(ANSWERS)], squeeze=False, wspace=0.04
    )[0]
    pixels, labels = digits()
    parts[0].suptitle("query")
    for axis, (_, own) in zip(parts[0].subplots(ASKED, 1), shown.groupby("query"), strict=True):
        _image(axis, pixels[own["query_image"].iloc[0]], str(labels[own["query_image"].iloc[0]]), "black")
    for part, answer in zip(parts[1:], ANSWERS, strict=True):
        own = shown[shown["answer"] == answer].sort_values(["query", "rank"])
        part.suptitle(answer)
        for axis, row in zip(part.subplots(ASKED, TOP).flat, own.itertuples(), strict=True):
            _image(axis, pixels[row.image], str(labels[row.image]), SHARED if row.named else OTHER)
    return Drawing(figure, shown, _caption(frame))


def _named_by_exact(rows: pd.DataFrame) -> pd.Series:
    """Truth values: is the image among the first of exact leave-one-out for the same query?"""
    keys = ["seed", "replicate", "query", "image"]
    exact = pd.MultiIndex.from_frame(rows.loc[rows["answer"] == EXACT, keys])
    return pd.Series(pd.MultiIndex.from_frame(rows[keys]).isin(exact), rows.index)


def _image(axis: Axes, pixels: Array, label: str, frame: str) -> None:
    axis.imshow(pixels.reshape(8, 8), cmap="Greys", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
    axis.set_xlabel(label, labelpad=1)
    for spine in axis.spines.values():
        spine.set(visible=True, color=frame, linewidth=1.6)


def _caption(frame: pd.DataFrame) -> str:
    first = frame.iloc[0]
    frame = frame.assign(named=_named_by_exact(frame))
    splits = frame.groupby(["seed", "replicate", "answer"])[["spearman", "named"]].mean().groupby("answer")
    mean, error = splits.mean(), splits.sem()

    def told(column: str) -> str:
        values = (f"{mean.loc[name, column]:.2f} ± {error.loc[name, column]:.2f} ({name})" for name in ANSWERS[1:])
        return ", ".join(values)

    count = frame[["seed", "replicate"]].drop_duplicates().shape[0]
    asked = np.unique(frame["queries"])[-1]
    return (
        f"What the ridge of the rule repairs. For {ASKED} held-out images of the digit {DIGIT}, the first of one "
        f"split, the {TOP} of n = {first['n']} training images that most raise the logit of '{DIGIT}' in a logistic "
        f"regression on p = {first['p']} random ReLU features (ridge {first['ridge']:g}): by exact leave-one-out, and "
        f"by TRAK at k = {first['k']} with one and the same projection, with the projected ridge of the rule and with "
        "none, the default of released packages. Number: label; blue frame: among those of exact leave-one-out. Over "
        f"all {asked} queries, mean ± s.e. over {count} splits: Spearman with exact leave-one-out over the n images "
        f"{told('spearman')}; share of the {TOP} that exact leave-one-out names too {told('named')}."
    )
