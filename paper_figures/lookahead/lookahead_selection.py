"""Gain of selection, policy by policy: paired differences with their intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import NullFormatter

from paper_figures.drawing.curves import shared_legend
from paper_figures.drawing.style import COLOURS, GUIDE, MARKERS, PAGE, Drawing
from paper_figures.drawing.words import counted
from simulations.engine.store import Store
from simulations.engine.study import find_study
from trak_theory.trajectory import paired_gain

TITLES = {
    "digits_wrong_labels": "digits, 30 % wrong labels",
    "digits_domains": "digits, 70 % turned by 90°",
    "mnist_wrong_labels": "MNIST, 30 % wrong labels",
    "text_domains": "GPT-2, prose wanted, 70 % code",
}
# Rows of the figure, (policy, against); policies at the compute of another are named "policy | that one".
OVER_RANDOM = (
    "all candidates",
    "random, validation set added",
    "lowest loss",
    "largest loss",
    "loss filter, share known",
    "loss filter, share estimated",
    "SGD geometry, K = 0",
    "K = 0",
    "K = 0, two-step",
    "K = 1",
    "K = 4",
    "K = 16",
    "to the end",
    "offline",
)
DUELS = (
    ("K = 0", "SGD geometry, K = 0"),
    ("K = 4", "K = 0"),
    ("K = 16", "K = 0"),
    ("K = 0", "offline"),
    ("K = 0", "to the end"),
    ("K = 0", "all candidates"),
    ("K = 0", "loss filter, share known"),
)
STOPPED = "random, more steps, stopped"
# panel → (policy, against, measure) of its rows
PANELS = {
    "test loss over random": [(name, "random", "test_loss") for name in OVER_RANDOM],
    "test accuracy over random": [(name, "random", "test_accuracy") for name in OVER_RANDOM],
    "test loss, first over second": [(*duel, "test_loss") for duel in DUELS],
}
LONGER = "test loss, K = 0 over longer random"  # against random selection with every multiple of the steps
# loss, accuracy, one policy over another, longer random selection; where a page holds many settings, without accuracy
WHOLE: dict[str, Any] = {"mosaic": "abc;abd", "width_ratios": [1.1, 1.0, 1.25], "height_ratios": [1.5, 1]}
BESIDE: dict[str, Any] = {"mosaic": "acd", "width_ratios": [1.0, 1.0, 1.1]}
PAGE_HOLDS = 2  # whole settings; where there are more, these policies are in the table alone
LEFT_OUT = ("random, validation set added", "K = 0, two-step", "K = 1", "to the end")
HEADINGS = (
    "test loss, over random",
    "accuracy, over random",
    "test loss, one over another",
    "K = 0, longer random",
)
BRIEF = {
    "random, validation set added": "random + validation",
    "loss filter, share known": "loss filter",
    "loss filter, share estimated": "filter, estimated",
    "SGD geometry, K = 0": "SGD, K = 0",
}
KEYS = ["setting", "learning_rate"]


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("lookahead_selection"))
    matched = frame["policy"].where(
        frame["compute_of"].isna(), frame["policy"] + " | " + frame["compute_of"].fillna("")
    )
    frame = frame.assign(policy=matched)
    numbers = pd.DataFrame([row for key, own in frame.groupby(KEYS, sort=False) for row in _gains(key, own)])
    settings = [name for name in TITLES if name in set(numbers["setting"])]
    many = len(settings) > PAGE_HOLDS
    figure = Figure(figsize=(PAGE, (2.1 if many else 3.5) * len(settings) + 0.4), layout="constrained")
    parts = figure.subfigures(len(settings), 1, squeeze=False)[:, 0]
    rates = sorted(set(numbers["learning_rate"]))
    shown = numbers[~numbers["policy"].isin(LEFT_OUT)] if many else numbers
    for part, name in zip(parts, settings, strict=True):
        part.suptitle(TITLES[name])
        _setting(part, shown[shown["setting"] == name], rates, BESIDE if many else WHOLE)
    for above in parts[:-1] if many else ():
        for axis in above.axes:
            axis.set_xlabel("")  # below the last one
    shared_legend(figure, figure.axes[0], len(rates), title="learning rate")
    left_out = f" Over random, in the table alone: {', '.join(LEFT_OUT)}." if many else ""
    return Drawing(figure, numbers, _caption(frame, numbers) + left_out)


def _setting(part: SubFigure, numbers: pd.DataFrame, rates: list[float], layout: dict[str, Any]) -> None:
    panels = part.subplot_mosaic(**layout)
    titles = dict(zip("abcd", HEADINGS, strict=True))
    for letter, panel in zip("abcd", [*PANELS, LONGER], strict=True):
        if letter in panels:
            draw_panel = _against_longer if panel == LONGER else _gains_in_rows
            draw_panel(panels[letter], numbers[numbers["panel"] == panel], rates)
            panels[letter].set_title(titles[letter])
    panels["a"].set_xscale("symlog", linthresh=0.1)  # the lowest loss is far off
    panels["a"].set_xticks([-1, -0.1, 0, 0.1, 1], ["−1", "−.1", "0", ".1", "1"])
    if "b" in panels:
        panels["b"].set_yticklabels([])


def _gains(key: tuple[Any, ...], own: pd.DataFrame) -> list[dict[str, Any]]:
    """Paired gains of one setting at one learning rate; two runs belong together when their replicate does."""
    wide = own.pivot(index=["seed", "replicate"], columns="policy", values=["test_loss", "test_accuracy", "multiple"])
    present = list(dict.fromkeys(own["policy"]))
    longer = [("K = 0", name, "test_loss") for name in present if name.startswith(STOPPED)]
    rows = []
    for panel, pairs in {**PANELS, LONGER: longer}.items():
        for name, against, measure in pairs if len(wide) > 1 else ():
            if name in present and against in present:
                sign = -1.0 if measure == "test_accuracy" else 1.0
                gain = paired_gain(sign * wide[measure, name], sign * wide[measure, against])
                row = {**dict(zip(KEYS, key, strict=True)), "panel": panel}
                row |= {"policy": name, "against": against, "measure": measure, "replicates": gain.pairs}
                row |= {"mean": gain.mean, "se": gain.se, "low": gain.low, "high": gain.high}
                multiples = {"multiple": wide["multiple", name].mean(), "longer": wide["multiple", against].mean()}
                rows.append(row | multiples)
    return rows


def _gains_in_rows(axis: Axes, numbers: pd.DataFrame, rates: list[float]) -> None:
    duel = set(zip(numbers["policy"], numbers["against"], strict=True)) <= set(DUELS)
    brief = numbers[["policy", "against"]].replace(BRIEF)
    labels = brief["policy"] + (" − " + brief["against"] if duel else "")
    names = list(dict.fromkeys(labels))
    for place, rate in enumerate(rates):
        own = numbers[numbers["learning_rate"] == rate]
        shift = 0.7 * ((place + 0.5) / len(rates) - 0.5)
        axis.errorbar(
            own["mean"],
            [names.index(name) + shift for name in labels[own.index]],
            xerr=[own["mean"] - own["low"], own["high"] - own["mean"]],
            linestyle="none",
            color=COLOURS[place],
            marker=MARKERS[place],
            markersize=2.5,
            elinewidth=0.7,
            label=f"{rate:g}",
        )
    axis.axvline(0.0, color=GUIDE, linewidth=0.6, zorder=0)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.grid(axis="x")


def _against_longer(axis: Axes, numbers: pd.DataFrame, rates: list[float]) -> None:
    for place, rate in enumerate(rates):
        own = numbers[numbers["learning_rate"] == rate].sort_values("longer")
        axis.errorbar(
            own["longer"],
            own["mean"],
            yerr=[own["mean"] - own["low"], own["high"] - own["mean"]],
            color=COLOURS[place],
            marker=MARKERS[place],
            markersize=2.0,
            linewidth=0.7,
        )
    axis.axhline(0.0, color=GUIDE, linewidth=0.6, zorder=0)
    for cost in numbers["multiple"].unique():
        axis.axvline(cost, color=GUIDE, linewidth=0.6, linestyle=":", zorder=0)
    axis.set(xscale="log", xlabel="times as many steps", ylabel="gain in test loss")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.grid(axis="y")


def _caption(frame: pd.DataFrame, numbers: pd.DataFrame) -> str:
    first = frame.iloc[0]
    cost = frame[frame["compute_of"].isna()].groupby("policy", sort=False)["multiple"].mean()
    dear = ", ".join(f"{name}: {cost[name]:.3g}×" for name in OVER_RANDOM if name in cost and cost[name] > 2)
    return (
        "What selecting half of each candidate batch gains. AdamW, first-order scores unless named two-step; gains on "
        f"a separate test set (first setting: p = {first['p']}, {first['steps']} steps, {first['candidates']} "
        "candidates), positive is better, 95 % Student intervals over "
        f"{counted(numbers['replicates'], 'paired runs')}, "
        "each for itself; an interval over zero shows no difference. Over random: "
        "random selection with as many steps (loss: symmetric log axis). One over another: at equal steps. "
        "K = 0, longer random: over random selection with more steps, read where its validation loss was lowest; "
        "dotted: where both have done the same work. The future of K > 0 is the upcoming candidate batches in "
        f"full. Work of a step against a plain one, in sample gradients: {dear}."
    )
