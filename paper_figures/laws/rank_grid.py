"""The a-priori law on its grid: measured against predicted Kendall, and what is left, by loss and by covariance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.drawing.curves import bars
from paper_figures.drawing.style import GUIDE, PAGE, Drawing
from paper_figures.drawing.words import counted
from simulations.engine.store import Store
from simulations.engine.study import find_study
from simulations.studies.laws.rank_grid import ALLOWANCE, COVARIANCES, ERRORS, LOSSES, compare, judge

MEASURE = "kendall"
COLOURED_BY = {"loss": LOSSES, "covariance": COVARIANCES}
COLUMNS = ["loss", "covariance", "n", "p", "k", "ridge", "projected_ridge", "ensemble", "signal", "data_sets"]


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("rank_grid"))
    table = judge(compare(frame[frame["grid"] == "grid"]))
    table = table[table["measure"] == MEASURE].reset_index(drop=True)
    numbers = table[[*COLUMNS, "law", "mean", "se", "gap", "allowed", "holds"]].assign(gap_se=table["se"])
    figure = Figure(figsize=(PAGE, 4.6), layout="constrained")
    parts = figure.subfigures(1, len(COLOURED_BY), squeeze=False)[0]
    for part, (column, values) in zip(parts, COLOURED_BY.items(), strict=True):
        above, below = part.subplots(2, 1, sharex=True, height_ratios=[1.2, 1])
        _measured(above, numbers, column, values)
        _left_over(below, numbers, column, values)
        above.set_title(f"by {column}")
        part.legend(*above.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return Drawing(figure, numbers, _caption(numbers))


def _measured(axis: Axes, numbers: pd.DataFrame, column: str, values: tuple[str, ...]) -> None:
    ends = [0.0, numbers["law"].max()]
    axis.plot(ends, ends, color=GUIDE, zorder=0)
    for place, value in enumerate(values):
        own = numbers[numbers[column] == value]
        bars(axis, own, x="law", place=place, label=value, linestyle="none")
    axis.set(ylabel="Kendall's τ, simulated", xlim=(0, None), ylim=(0, None))


def _left_over(axis: Axes, numbers: pd.DataFrame, column: str, values: tuple[str, ...]) -> None:
    """Differences from the law; the grey bars are what the verdict allows each setting."""
    axis.axhline(0.0, color=GUIDE, zorder=0)
    axis.vlines(numbers["law"], -numbers["allowed"], numbers["allowed"], color="0.88", linewidth=2.5, zorder=0)
    for place, value in enumerate(values):
        own = numbers[numbers[column] == value]
        bars(axis, own, x="law", y="gap", place=place, label=value, linestyle="none")
    axis.set(xlabel="Kendall's τ, predicted", ylabel="simulated − predicted")


def _caption(numbers: pd.DataFrame) -> str:
    rms = float(np.sqrt((numbers["gap"] ** 2).mean()))
    sizes = ", ".join(f"{name} = {numbers[name].min():,} to {numbers[name].max():,}" for name in ("n", "p", "k"))
    return (
        f"The a-priori law of TRAK's rank agreement on {counted([len(numbers)], 'settings')} fixed beforehand "
        f"({sizes}; ridge, signal, projected ridge and ensemble vary too): Kendall's τ with exact leave-one-out "
        f"influence, simulated (mean ± s.e. over {numbers['data_sets'].max()} data sets) against predicted with "
        "nothing fitted. Above: the line is equality. Below: simulated less predicted, the same settings; grey: what "
        "the verdict allows, "
        f"{ERRORS:g} s.e. + {ALLOWANCE[MEASURE]:g}/√n. {numbers['holds'].sum()} of {len(numbers)} lie within; "
        f"the differences have a root mean square of {rms:.4f}, {numbers['gap'].abs().max():.4f} at most, beside a "
        f"mean s.e. of {numbers['se'].mean():.4f}."
    )
