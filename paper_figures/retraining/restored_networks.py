"""Restored influence, by sketch and by conjugate gradients, beside TRAK and retraining on larger networks."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.drawing.curves import bars, shared_legend, summary
from paper_figures.drawing.style import PAGE, Drawing
from paper_figures.drawing.words import counted
from simulations.engine.store import Store
from simulations.engine.study import find_study
from simulations.studies.retraining.restored_networks import AGAIN, RELEASED, RULED, SHARES, SKETCHED, SOLVED

ANSWERS = (AGAIN, SOLVED, SKETCHED, RULED, RELEASED)
MODELS = ("CNN", "GPT-2")


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("restored_networks"))
    frame = frame[frame["p"] == frame.groupby("model")["p"].transform("max")]
    frame = frame[frame["n"] == frame.groupby("model")["n"].transform("max")]
    numbers = summary(frame, ["model", "share", "answer"], ["fidelity"])
    figure = Figure(figsize=(PAGE, 2.4), layout="constrained")
    axes = figure.subplots(1, len(MODELS), sharey=True, squeeze=False)[0]
    for axis, model in zip(axes, MODELS, strict=True):
        own = frame[frame["model"] == model]
        _answers(axis, numbers[numbers["model"] == model])
        axis.set_title(f"{model}, p = {own['p'].iloc[0]:,}, n = {own['n'].iloc[0]}")
    axes[0].set_ylabel("LDS")
    shared_legend(figure, axes[0], 3)
    return Drawing(figure, numbers, _caption(frame, numbers))


def _answers(axis: Axes, numbers: pd.DataFrame) -> None:
    for place, answer in enumerate(ANSWERS):
        own = numbers[numbers["answer"] == answer]
        shift = 0.12 * (place - (len(ANSWERS) - 1) / 2)
        places = [SHARES.index(share) + shift for share in own["share"]]
        bars(axis, own.assign(place=places), x="place", place=place, label=answer, linestyle="none")
    axis.set_xticks(range(len(SHARES)), labels=[f"{share:.0%} removed" for share in SHARES])
    axis.set_xlim(-0.5, len(SHARES) - 0.5)
    axis.grid(axis="y")


def _caption(frame: pd.DataFrame, numbers: pd.DataFrame) -> str:
    sizes = "; ".join(
        f"{model}: {own['subsets'].iloc[0]} random sets removed, {own['queries'].iloc[0]} queries, "
        f"k = {own['k'].iloc[0]}"
        for model, own in frame.groupby("model", sort=False)
    )
    return (
        "Spearman correlation of predicted outputs with those after retraining without 1 % and without half of the "
        "samples, AdamW at 1e-3, for restored influence with two curvature directions a sample (one CountSketch to k "
        "dimensions, and conjugate gradients that start from it), TRAK with the ridge of the rule at the same k, TRAK "
        "without a ridge at k = n/4, and for retraining itself in another batch order. "
        f"{sizes}. Mean over {counted(numbers['replicates'], 'networks')} ± s.e. over networks. Dimensionless."
    )
