"""The price in LDS of every step from a retraining to a released score, and what ten retrainings predict of it."""

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
from simulations.studies.retraining.lds_ladder import FEW, RUNGS

MEASURES = {"lds": "measured", "predicted": f"predicted from the twin and {FEW} retrainings"}
COLUMNS = 3
PANEL = ["n", "recipe", "fraction"]


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("lds_ladder"))
    frame = frame[frame["n"] == frame["n"].max()]
    numbers = _numbers(frame)
    panels = list(numbers.groupby(PANEL, sort=False))
    lines = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(PAGE, 0.4 + 2.5 * lines), layout="constrained")
    axes = figure.subplots(lines, COLUMNS, sharey=True, squeeze=False).ravel()
    for axis, ((_, recipe, fraction), rows) in zip(axes, panels, strict=False):
        _rungs(axis, rows)
        axis.set_title(f"{recipe},\nα = {fraction:g}")
    for axis in axes[len(panels) :]:
        axis.remove()
    axes[0].set_yticks(range(len(RUNGS)), RUNGS)
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(MEASURES))
    return Drawing(figure, numbers, _caption(frame))


def _numbers(frame: pd.DataFrame) -> pd.DataFrame:
    pieces = [
        frame[frame[measure].notna() & frame["rung"].isin(RUNGS)]
        .groupby([*PANEL, "rung"], sort=False)[measure]
        .apply(mean_and_error)
        .unstack()
        .reset_index()
        .assign(measure=name)
        for measure, name in MEASURES.items()
    ]
    return pd.concat(pieces, ignore_index=True).astype({"replicates": int})


def _rungs(axis: Axes, numbers: pd.DataFrame) -> None:
    for place, name in enumerate(MEASURES.values()):
        rows = numbers[numbers["measure"] == name]
        axis.errorbar(
            rows["mean"],
            [RUNGS.index(rung) + 0.22 * place for rung in rows["rung"]],
            xerr=np.nan_to_num(rows["se"].to_numpy()),
            color=COLOURS[place],
            marker=MARKERS[place],
            linestyle="none",
            label=name,
        )
    axis.axvline(1.0, color=GUIDE, zorder=0)
    axis.set_xlim(0.0, 1.02)
    axis.set_xlabel("LDS")
    axis.grid(axis="x")


def _caption(frame: pd.DataFrame) -> str:
    first = frame.iloc[0]
    again = frame.loc[frame["rung"].str.startswith("retraining"), "lds"]
    ceiling = f" Retraining in another batch order agrees to {again.min():.3f} or better." if len(again) else ""
    return (
        f"Spearman correlation with the margins of retrained 64-{first['hidden']}-10 ReLU networks, {first['n']} "
        f"digits, p = {first['p']}, over {first['subsets']} random subsets with a share α of the points, less its "
        f"small-sample bias; mean over {first['queries']} queries and "
        f"{counted([frame['replicate'].nunique()], 'networks')} ± s.e. "
        "over networks. First four rungs: outputs of the linearised model, refitted or after one Newton step, with all "
        "ten logits or TRAK's margin. Then sums over points: restored influence, one Newton step of leave-one-out, "
        "unit curvature, projection to k = n/2 with the ridge of the rule and without, half precision."
        f"{ceiling} Squares use {FEW} retrainings on other subsets. Dimensionless."
    )
