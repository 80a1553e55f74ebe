"""Fidelity of every answer to a removal against the share of samples removed."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from paper_figures.drawing.curves import summary
from paper_figures.drawing.removals import panels_by_share
from paper_figures.drawing.style import Drawing
from paper_figures.drawing.words import counted
from simulations.engine.store import Store
from simulations.engine.study import find_study
from simulations.studies.retraining.share_removed import ANSWERS

PANEL = ["activation", "recipe"]
SHOWN = [answer for answer in ANSWERS if answer != "leave-one-out Newton"]  # below restored influence; in the table


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("share_removed"))
    frame = frame[frame["n"] == frame["n"].max()]
    numbers = summary(frame, [*PANEL, "share", "answer"], ["fidelity"])
    figure = panels_by_share(numbers, PANEL, SHOWN)
    return Drawing(figure, numbers, _caption(frame, numbers))


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
        f"over queries and {counted(numbers['replicates'], 'networks')} ± s.e. over networks. Dimensionless."
    )
