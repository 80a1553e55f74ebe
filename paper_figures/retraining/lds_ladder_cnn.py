"""The price in LDS of every step from a retraining of a CNN to a released score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.drawing.style import COLOURS, GUIDE, MARKERS, PAGE, Drawing, mean_and_error
from paper_figures.drawing.words import counted
from simulations.engine.store import Store
from simulations.engine.study import find_study
from simulations.studies.retraining.lds_ladder import RUNGS
from simulations.studies.retraining.removed_from_networks import AGAIN
from simulations.studies.retraining.share_removed import TRAJECTORIES

KINDS = (("knows the order of the batches", tuple(TRAJECTORIES)), ("does not", (AGAIN, *RUNGS)))
ORDER = (*TRAJECTORIES, AGAIN, *RUNGS)


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("lds_ladder_cnn"))
    numbers = _numbers(frame[frame["n"] == frame["n"].max()])
    recipes, fractions = (list(dict.fromkeys(numbers[name])) for name in ("recipe", "fraction"))
    figure = Figure(figsize=(PAGE, 0.5 + 2.6 * len(fractions)), layout="constrained")
    axes = figure.subplots(len(fractions), len(recipes), sharex=True, sharey=True, squeeze=False)
    for line, fraction in zip(axes, fractions, strict=True):
        for axis, recipe in zip(line, recipes, strict=True):
            _rungs(axis, numbers[(numbers["recipe"] == recipe) & (numbers["fraction"] == fraction)])
            axis.set_title(f"{recipe}, α = {fraction:g}")
    axes[0, 0].set_yticks(range(len(ORDER)), ORDER)
    axes[0, 0].invert_yaxis()
    for axis in axes[-1]:
        axis.set_xlabel("LDS")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(KINDS))
    return Drawing(figure, numbers, _caption(frame[frame["n"] == frame["n"].max()]))


def _numbers(frame: pd.DataFrame) -> pd.DataFrame:
    measured = frame.groupby(["n", "recipe", "fraction", "rung"], sort=False)["lds"].apply(mean_and_error)
    return measured.unstack().reset_index().astype({"replicates": int})


def _rungs(axis: Axes, numbers: pd.DataFrame) -> None:
    for place, (name, rungs) in enumerate(KINDS):
        rows = numbers[numbers["rung"].isin(rungs)]
        axis.errorbar(
            rows["mean"],
            [ORDER.index(rung) for rung in rows["rung"]],
            xerr=np.nan_to_num(rows["se"].to_numpy()),
            color=COLOURS[place],
            marker=MARKERS[place],
            linestyle="none",
            label=name,
        )
    for end in (0.0, 1.0):
        axis.axvline(end, color=GUIDE, zorder=0)
    axis.grid(axis="x")


def _caption(frame: pd.DataFrame) -> str:
    first = frame.iloc[0]
    return (
        f"Spearman correlation with the margins of retrained CNNs, {first['n']} images of MNIST, p = {first['p']}, "
        f"over {first['subsets']} random subsets with a share α of the images, less its small-sample bias; mean over "
        f"{first['queries']} queries and {counted([frame['replicate'].nunique()], 'networks')} "
        "± s.e. over networks. Retraining "
        "keeps the order of the batches, which the first three answers know. The others do not, and the square root of "
        f"what “{AGAIN}” agrees to is about the most that they can reach. Below are the rungs of the ladder: outputs "
        "of the linearised model, refitted or after one Newton step, and sums over points down to half precision at "
        "k = n/2. Dimensionless."
    )
