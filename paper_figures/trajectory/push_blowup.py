"""The blow-up of exact pushes where the first batch gradients cancel."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from paper_figures.drawing.curves import ESTIMATORS, curves, shared_legend, summary
from paper_figures.drawing.style import GUIDE, PAGE, Drawing
from paper_figures.drawing.words import counted
from simulations.engine.store import Store
from simulations.engine.study import find_study

SHOWN = {name: ESTIMATORS[name] for name in ("first-order", "exact-push", "two-step", "frozen-push")}


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("push_blowup"))
    numbers = summary(frame, ["cancelling", "cancellation", "estimator"], ["relative_error"])
    numbers = numbers[numbers["estimator"].isin(SHOWN)].reset_index(drop=True)
    cases = sorted(set(numbers["cancelling"]))
    figure = Figure(figsize=(PAGE, 2.5), layout="constrained")
    axes = figure.subplots(1, len(cases), sharey=True, squeeze=False)[0]
    for axis, cancelling in zip(axes, cases, strict=True):
        chosen = numbers[numbers["cancelling"] == cancelling].assign(se=0.0)
        curves(axis, chosen, x="cancellation", group="estimator", labels=SHOWN)
        axis.axhline(1.0, color=GUIDE, linewidth=0.6, zorder=0)
        axis.set(xscale="log", yscale="log", xlabel="remaining gradient", title=_title(cancelling))
    axes[0].set_ylabel("relative error")
    shared_legend(figure, axes[0], len(SHOWN))
    first = frame.iloc[0]
    caption = (
        "Exact pushes blow up where batch gradients nearly cancel while v is young. AdamW on linear losses (no "
        f"curvature: p = {first['p']}, |B| = {first['batch']}, {first['steps']} steps); in the first batches, as many "
        "as the title says, the mean gradient is scaled down to the given share. Relative error of the influence of "
        f"the first batch's samples against retraining, over {first['queries']} linear queries (log axes; grey: the "
        "size of the truth). An exact push propagates its finite change of v with the slope at the small v; the "
        "two-step push follows it through one step more, the frozen push through the run's first ten steps. Means "
        f"over {counted(numbers['replicates'], 'draws')}, heavy-tailed; the standard errors are in the numbers."
    )
    return Drawing(figure, numbers, caption)


def _title(cancelling: int) -> str:
    return "1 batch cancels" if cancelling == 1 else f"{cancelling} batches cancel"
