"""Rank fidelity of look-ahead scores against the horizon: to their own read-out, and to the end of the run."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from paper_figures.drawing.curves import ESTIMATORS, curves, shared_legend, summary
from paper_figures.drawing.style import GUIDE, PAGE, Drawing
from paper_figures.drawing.words import counted
from simulations.engine.store import Store
from simulations.engine.study import find_study

SETTING = "digits_wrong_labels"
MEASURES = {"own": "Spearman with the\neffect K steps later", "final": "Spearman with the\neffect on the end"}
SHOWN = {"retraining": "retraining, read off K steps later"} | {
    name: ESTIMATORS[name] for name in ("sgd", "first-order", "two-step")
}


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("lookahead_fidelity"))
    frame = frame[frame["setting"] == SETTING]
    frame = frame.assign(horizon=frame["horizon"].astype(str).mask(frame["to_the_end"], "end"))
    names = list(dict.fromkeys(frame["horizon"]))
    keys = ["learning_rate", "estimator", "horizon"]
    steps = frame.groupby([*keys, "seed", "replicate"], sort=False)[list(MEASURES)].mean().reset_index()
    numbers = summary(steps, keys, list(MEASURES))
    beside = numbers["estimator"].map({name: 0.08 * (k - 1.5) for k, name in enumerate(SHOWN)})
    placed = numbers.assign(place=numbers["horizon"].map(names.index) + beside)
    rates = sorted(set(numbers["learning_rate"]))
    figure = Figure(figsize=(PAGE, 3.4), layout="constrained")
    grid = figure.subplots(len(MEASURES), len(rates), sharex=True, sharey=True, squeeze=False)
    for axes, (measure, label) in zip(grid, MEASURES.items(), strict=True):
        for axis, rate in zip(axes, rates, strict=True):
            chosen = placed[(placed["learning_rate"] == rate) & (placed["measure"] == measure)]
            curves(axis, chosen, x="place", group="estimator", labels=SHOWN)
            axis.axhline(0.0, color=GUIDE, linewidth=0.6, zorder=0)
        axes[0].set_ylabel(label)
    for axis, rate in zip(grid[0], rates, strict=True):
        axis.set_title(f"learning rate {rate:g}")
    for axis in grid[1]:
        axis.set(xlabel="horizon K", xticks=range(len(names)), xticklabels=names)
    shared_legend(figure, grid[0][0], len(SHOWN))
    first = frame.iloc[0]
    caption = (
        f"What look-ahead scores rank. Digits with 30 % wrong labels, AdamW (p = {first['p']}, {first['steps']} steps "
        f"on all {first['batch']} candidates of a batch): Spearman, over the candidates of steps "
        f"{', '.join(map(str, sorted(set(frame['step']))))}, with the effect on the validation loss of training "
        "without the candidate at that step alone. Top: effect on the loss K steps later, the score's own target. "
        "Bottom: effect on the loss at the end of the run; blue is the exact effect K steps later: "
        "what a short horizon loses against the end is the horizon's, not the estimator's. "
        "Rank fidelity is not what selection gains. Mean over steps ± s.e. over "
        f"{counted(numbers['replicates'], 'runs')}."
    )
    return Drawing(figure, numbers, caption)
