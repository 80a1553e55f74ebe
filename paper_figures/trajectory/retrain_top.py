"""Gain of replacing m of n estimates by retraining."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from paper_figures.drawing.curves import curves, shared_legend, summary
from paper_figures.drawing.style import PAGE, Drawing
from paper_figures.drawing.words import counted
from simulations.engine.store import Store
from simulations.engine.study import find_study

ESTIMATOR = "frozen-push"
ORDERS = {"largest": "largest estimate", "least certain": "largest proxy", "random": "random"}
MEASURES = {"spearman": "gain in Spearman", "relative_error": "change of rel. error"}
RUN = ["seed", "replicate", "learning_rate"]


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("retrain_top"))
    frame = frame[frame["estimator"] == ESTIMATOR]
    numbers = summary(_gains(frame), ["learning_rate", "order", "retrained"], list(MEASURES))
    rates = sorted(set(numbers["learning_rate"]))
    figure = Figure(figsize=(PAGE, 2.4), layout="constrained")
    axes = figure.subplots(1, len(rates) * len(MEASURES), squeeze=False)[0]
    panels = [(rate, measure) for rate in rates for measure in MEASURES]
    for axis, (rate, measure) in zip(axes, panels, strict=True):
        chosen = numbers[(numbers["learning_rate"] == rate) & (numbers["measure"] == measure)]
        curves(axis, chosen, x="retrained", group="order", labels=ORDERS)
        axis.set(title=f"learning rate {rate:g}", xlabel="retrained m", ylabel=MEASURES[measure])
    shared_legend(figure, axes[0], len(ORDERS))
    first = frame.iloc[0]
    caption = (
        f"The remedy for large learning rates: replace m of n = {first['n']} estimates by retraining. Frozen push "
        f"(ours) on digits (AdamW, tanh network, p = {first['p']}, |B| = {first['batch']}, {first['steps']} steps), "
        "agreement with retraining without every sample; query: mean held-out loss. Retrained first: the largest "
        "estimates, those of the largest error proxy, or random ones. Differences from the same run with none "
        f"retrained, where they are {_levels(frame)}; mean ± s.e. over {counted(numbers['replicates'], 'runs')}. "
        "Note the different "
        "ranges."
    )
    return Drawing(figure, numbers, caption)


def _gains(frame: pd.DataFrame) -> pd.DataFrame:
    """Measures less those of the same run with nothing retrained."""
    measures, none = list(MEASURES), frame[frame["retrained"] == 0].drop_duplicates(RUN).set_index(RUN)
    level = none.loc[pd.MultiIndex.from_frame(frame[RUN]), list(MEASURES)].set_index(frame.index)
    return frame.assign(**{measure: frame[measure] - level[measure] for measure in measures})


def _levels(frame: pd.DataFrame) -> str:
    none = frame[frame["retrained"] == 0].groupby("learning_rate")[list(MEASURES)].mean()
    return " and ".join(
        f"{row.spearman:.3f}, {row.relative_error:.2f} (learning rate {row.Index:g})" for row in none.itertuples()
    )
