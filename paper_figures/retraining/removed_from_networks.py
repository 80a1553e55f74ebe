"""Fidelity of every answer to a removal against the share removed, on a CNN and on language models."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from paper_figures.drawing.curves import summary
from paper_figures.drawing.removals import panels_by_share
from paper_figures.drawing.style import Drawing
from paper_figures.drawing.words import counted
from simulations.engine.store import Store
from simulations.engine.study import find_study
from simulations.studies.retraining.removed_from_networks import ANSWERS, WEIGHTED

PANEL = ["model", "recipe"]
SHOWN = [answer for answer in ANSWERS if answer != WEIGHTED]  # nowhere the best; in the table


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("removed_from_networks"))
    frame = frame[frame["sets"] == frame["sets"].max()]
    numbers = summary(frame, [*PANEL, "share", "answer"], ["fidelity"])
    return Drawing(panels_by_share(numbers, PANEL, SHOWN), numbers, _caption(frame, numbers))


def _caption(frame: pd.DataFrame, numbers: pd.DataFrame) -> str:
    first = frame.iloc[0]
    sizes = "; ".join(
        f"{model}: n = {rows['n'].iloc[0]}, p = {rows['p'].iloc[0]}"
        for model, rows in frame.groupby("model", sort=False)
    )
    return (
        f"Spearman correlation over {first['sets']} removed sets of {first['queries']} queries (margins of held-out "
        "images, losses of held-out text), predicted without retraining and retrained in the same order with batches "
        "as means of what is left, less its small-sample bias, against the share removed (one: a single sample). "
        "Answers as in the figure share_removed; there is no twin of a language model. Retraining, another order: the "
        "same removals from a training whose batches were shuffled anew, about the square of what an answer can reach "
        f"that does not know the order. Mean over queries and {counted(numbers['replicates'], 'networks')} "
        "± s.e. over networks. "
        f"{sizes}. Dimensionless."
    )
