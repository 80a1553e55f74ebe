"""This project beside released packages: LDS on networks, and Spearman on trajectories.

`python -m paper_figures.rivals FOLDER` draws it, and `rivals_cost`, from the tables that
`python -m simulations.benchmarks rivals` wrote.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from matplotlib.figure import Figure

from paper_figures import rivals_cost
from paper_figures.drawing.curves import shared_legend
from paper_figures.drawing.style import COLOURS, MARKERS, PAGE, Drawing, style

OWN, OTHER, TRUTH = COLOURS[0], COLOURS[1], "0.4"


def draw(folder: Path) -> list[Path]:
    """FOLDER/rivals.pdf, .png, .csv and .txt from network.csv and trajectory.csv."""
    network, trajectory = (pd.read_csv(folder / f"{name}.csv") for name in ("network", "trajectory"))
    with style():
        network["label"] = network["method"] + "\n" + network["setting"]
        figure = Figure(figsize=(PAGE, 1.2 + 0.36 * network["label"].nunique()), layout="constrained")
        left, right = figure.subfigures(1, 2, width_ratios=[1.5, 1], squeeze=False)[0]
        _rows(left.subplots(), network, "network", "LDS", "LDS over half subsets")
        trajectory = trajectory[trajectory["queries"] == 1].copy()
        trajectory["label"] = trajectory["method"].str.replace(" (", "\n(", regex=False)
        trajectory["group"] = [f"learning rate {rate:g}" for rate in trajectory["learning rate"]]
        _rows(right.subplots(), trajectory, "group", "Spearman", "Spearman with retraining")
        plotted = pd.concat([network.assign(part="network"), trajectory.assign(part="trajectory")])
        columns = ["part", "network", "learning rate", "method", "setting", "LDS", "Spearman", "s.e."]
        return Drawing(figure, plotted[[c for c in columns if c in plotted]], CAPTION).save("rivals", folder)


CAPTION = (
    "This project (blue) beside released packages (orange), and retraining in another batch order (grey). "
    "Left: linear datamodelling score of 64-128-10 ReLU "
    "networks on 1,000 digits (100 queries) and of convolutional networks on 1,000 images of MNIST (50), 100 half "
    "subsets retrained from the same start, mean over queries ± s.e. over them. "
    "Right: AdamW runs of a 64-16-10 tanh network on 200 digits (60 steps of 20), rank correlation of each method with "
    "the effect of leaving each sample out of the run, mean ± s.e. over seeds. Settings as named, each package in an "
    "environment of its own. A method without a marker did not run; its table says why."
)


def _rows(axis: Any, frame: pd.DataFrame, group: str, value: str, label: str) -> None:
    """One line per method, one marker shape per group, the groups of a line below each other."""
    labels = list(dict.fromkeys(frame["label"]))[::-1]
    groups = list(dict.fromkeys(frame[group]))
    apart = min(0.22, 0.7 / len(groups))
    for place, name in enumerate(groups):
        chosen = frame[frame[group] == name]
        height = np.array([labels.index(each) for each in chosen["label"]]) + apart * (len(groups) / 2 - 0.5 - place)
        own = chosen["label"].str.contains("(ours)", regex=False).to_numpy()
        again = (chosen["method"] == "retraining").to_numpy()
        for colour, mask in ((OWN, own), (TRUTH, again), (OTHER, ~own & ~again)):
            axis.errorbar(
                chosen[value][mask],
                height[mask],
                xerr=chosen["s.e."][mask],
                color=colour,
                marker=MARKERS[place],
                linestyle="none",
            )
        axis.plot([], [], color="0.4", marker=MARKERS[place], linestyle="none", label=name)
    axis.set_yticks(range(len(labels)), labels)
    axis.set_xlabel(label)
    axis.grid(axis="x")
    shared_legend(axis.figure, axis, 1 + len(groups) // 4)


def main(folder: Annotated[Path, typer.Argument(help="Tables of the benchmark.")] = Path("results/rivals")) -> None:
    """Draw FOLDER/rivals and FOLDER/rivals_cost, .pdf and .png."""
    try:
        paths = [*draw(folder), *rivals_cost.draw(folder)]
    except FileNotFoundError as error:
        typer.echo(f"{error.filename} is not there: run python -m simulations.benchmarks rivals first", err=True)
        raise typer.Exit(1) from None
    typer.echo(", ".join(map(str, paths)))


if __name__ == "__main__":
    typer.run(main)
