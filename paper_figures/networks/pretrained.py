"""One epoch of pretrained models: each estimate against the truth of its own convention, and of the other."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.drawing.curves import ESTIMATORS, shared_legend, summary
from paper_figures.drawing.style import COLOURS, MARKERS, PAGE, Drawing
from paper_figures.drawing.words import counted
from simulations.engine.store import Store
from simulations.engine.study import find_study

PAIRS = {
    ("keep", "keep"): "both keep the denominator",
    ("renormalise", "renormalise"): "both renormalise",
    ("renormalise", "keep"): "truth renormalises, estimate keeps",
    ("keep", "renormalise"): "truth keeps, estimate renormalises",
}
APART = 0.16  # between the pairs of an estimator, in rows


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("pretrained"))
    numbers = summary(frame, ["model", "learning_rate", "estimator", "truth", "estimate"], ["spearman"])
    models = list(numbers.groupby(["model", "learning_rate"], sort=False))
    figure = Figure(figsize=(PAGE, 2.6), layout="constrained")
    axes = figure.subplots(1, len(models), sharey=True, squeeze=False)[0]
    for axis, ((model, rate), rows) in zip(axes, models, strict=True):
        _panel(axis, rows)
        axis.set_title(f"{model}, peak rate {rate:.0e}".replace("e-0", "e−"))
    shared_legend(figure, axes[0], 2)
    queries = frame["queries"].iloc[0]
    caption = (
        "One epoch after pretraining: 16 steps of AdamW with betas (.9, .999), warm-up over two steps, then linear "
        f"decay. Spearman correlation with retraining without one sequence, mean over {queries} held-out sequences as "
        f"queries: {_sizes(frame)}. Matched pairs agree on what a removal does to the denominator of the batch mean; "
        f"the published protocol is the third pair. Mean ± s.e. over {counted(numbers['replicates'], 'runs')}."
    )
    return Drawing(figure, numbers, caption)


def _panel(axis: Axes, rows: pd.DataFrame) -> None:
    names = [name for name in ESTIMATORS if name in set(rows["estimator"])]
    for place, ((truth, estimate), label) in enumerate(PAIRS.items()):
        chosen = rows[(rows["truth"] == truth) & (rows["estimate"] == estimate)].set_index("estimator").loc[names]
        heights = [row + (place - 1.5) * APART for row in range(len(names))]
        axis.errorbar(
            chosen["mean"],
            heights,
            xerr=chosen["se"].fillna(0.0),
            color=COLOURS[place],
            marker=MARKERS[place],
            linestyle="none",
            label=label,
        )
    axis.set_yticks(range(len(names)), [ESTIMATORS[name] for name in names])
    axis.set(xlabel="Spearman with retraining", ylim=(len(names) - 0.4, -0.6))
    axis.grid(axis="x")


def _sizes(frame: pd.DataFrame) -> str:
    """n, p and removals of each model."""
    first = frame.groupby("model", sort=False)[["n", "p", "removals"]].first()
    return "; ".join(f"{model}: n = {n}, p = {p:,}, {m} removed one by one" for model, n, p, m in first.itertuples())
