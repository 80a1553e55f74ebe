"""Formula against optimiser: Spearman correlation with retraining."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from paper_figures.drawing.curves import ESTIMATORS, curves, shared_legend, summary
from paper_figures.drawing.style import PAGE, Drawing
from paper_figures.drawing.words import counted
from simulations.engine.store import Store
from simulations.engine.study import find_study

OPTIMIZERS = {
    "sgd": "SGD",
    "sgd_momentum": "SGD, momentum .9",
    "adam": "Adam",
    "adamw": "AdamW",
    "muon": "Muon",
    "lion": "Lion",
}
FORMULAS = {name: ESTIMATORS[name] for name in ("sgd", "first-order", "two-step", "frozen-push")}


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("optimizer_mismatch"))
    keys = ["optimizer", "rate", "learning_rate", "formula"]
    numbers = summary(frame[frame["formula"].isin(FORMULAS)], keys, ["spearman"])
    figure = Figure(figsize=(PAGE, 4.0), layout="constrained")
    axes = figure.subplots(2, len(OPTIMIZERS) // 2, sharey=True)
    for axis, (optimizer, title) in zip(axes.flat, OPTIMIZERS.items(), strict=True):
        chosen = numbers[numbers["optimizer"] == optimizer]
        curves(axis, chosen, x="learning_rate", group="formula", labels=FORMULAS)
        axis.set(xscale="log", title=title, xlabel="learning rate")
        rates = sorted(set(chosen["learning_rate"]))
        axis.set_xticks(rates, [f"{rate:g}" for rate in rates])
        axis.minorticks_off()
    for row in axes:
        row[0].set_ylabel("Spearman with retraining")
    axes[0, 0].set_ylim(min(0.0, 1.1 * numbers["mean"].min()), 1.02)
    shared_legend(figure, axes[0, 0], len(FORMULAS))
    first = frame.iloc[0]
    caption = (
        "Which influence formula for which optimiser. Spearman correlation of each formula with retraining without "
        f"each of n = {first['n']} digits (tanh network, p = {first['p']}, |B| = {first['batch']}, {first['steps']} "
        "steps, denominator kept; query: mean held-out loss). The SGD formula reads every run as plain SGD's; first "
        "order is the derivative of the run under its own optimiser; the pushes take the sample's own step exactly "
        "(ours). Without momentum the four agree: SGD is linear in the gradient. Lion's step is made of signs, whose "
        "derivative is 0: first order gives every sample the same score, and has no curve. "
        f"Mean ± s.e. over {counted(numbers['replicates'], 'runs')}."
    )
    return Drawing(figure, numbers, caption)
