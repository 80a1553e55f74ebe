"""What LDS costs in processor time and in memory: this project beside released packages, with the Pareto front."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy import ndarray as Array

from paper_figures.drawing.style import COLOURS, GUIDE, MARKERS, PAGE, Drawing, style

COSTS = {"CPU s": "processor time, s", "MiB": "memory, MiB"}


def draw(folder: Path) -> list[Path]:
    """FOLDER/rivals_cost.pdf, .png, .csv and .txt from network.csv: one column per network, one row per cost."""
    measured = pd.read_csv(folder / "network.csv").dropna(subset=["LDS", *COSTS])
    networks = list(dict.fromkeys(measured["network"]))
    looks = _looks(list(dict.fromkeys(measured["method"])))
    with style():
        figure = Figure(figsize=(PAGE, 4.9), layout="constrained")
        axes = figure.subplots(len(COSTS), len(networks), sharex="row", sharey="col", squeeze=False)
        for column, network in enumerate(networks):
            rows = measured[measured["network"] == network]
            axes[0, column].set_title(fill(network, 15))
            for axis, cost in zip(axes[:, column], COSTS, strict=True):
                _panel(axis, rows, cost, looks)
        for axis, label in zip(axes, COSTS.values(), strict=True):
            axis[0].set_ylabel("LDS over half subsets")
            axis[len(networks) // 2].set_xlabel(label)
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        columns = ["network", "method", "setting", "LDS", "s.e.", *COSTS]
        return Drawing(figure, measured[columns], CAPTION).save("rivals_cost", folder)


CAPTION = (
    "LDS against the processor time of one thread (top) and against the memory added to the process (bottom), one "
    "column per network: this project (blue) and released packages (orange), every setting of a method with the same "
    "marker; bars are standard errors over queries. Nothing measured lies above and to the left of the grey line, the "
    "Pareto front. The twin's cost is that of answers for 100 subsets, a score's that of scores for all queries; "
    "gradients are counted in both, training the network is not."
)


def _looks(methods: list[str]) -> dict[str, dict[str, str]]:
    """Colour by whose method it is, marker by method."""
    own = [method for method in methods if "(ours)" in method]
    others = [method for method in methods if "(ours)" not in method]
    return {
        method: {"color": colour, "marker": marker}
        for colour, group in ((COLOURS[0], own), (COLOURS[1], others))
        for method, marker in zip(group, MARKERS, strict=False)
    }


def _panel(axis: Any, rows: pd.DataFrame, cost: str, looks: dict[str, dict[str, str]]) -> None:
    x, y = front(rows[cost].to_numpy(), rows["LDS"].to_numpy())
    axis.step(x, y, where="post", color=GUIDE, zorder=0)
    for method, look in looks.items():
        chosen = rows[rows["method"] == method]
        axis.errorbar(chosen[cost], chosen["LDS"], yerr=chosen["s.e."], linestyle="none", label=method, **look)
    axis.set_xscale("log")
    axis.grid()


def front(cost: Array, score: Array) -> tuple[Array, Array]:
    """The Pareto front, by growing cost: points that no other one equals or beats in both, cost below and score above.

    >>> front(np.array([3.0, 1.0, 2.0]), np.array([0.9, 0.2, 0.1]))
    (array([1., 3.]), array([0.2, 0.9]))
    """
    order = np.lexsort((-score, cost))
    best_before = np.maximum.accumulate(np.concatenate([[-np.inf], score[order][:-1]]))
    kept = order[score[order] > best_before]
    return cost[kept], score[kept]
