"""Panels of the torch studies' trajectory side: the rows of `simulations.workloads.torch_runs.trajectory_rows`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import t as student

from paper_figures.drawing.curves import ESTIMATORS, curves, shared_legend, summary
from paper_figures.drawing.style import COLOURS, GUIDE, MARKERS
from paper_figures.drawing.words import counted

# Colours and markers go by place; the hybrid is last, for only the language models have it.
SHOWN = {name: ESTIMATORS[name] for name in ("sgd", "first-order", "exact-push", "two-step", "frozen-push", "hybrid")}
COARSER = {"two-step, Gauss–Newton": "two-step, GGN", "two-step, no curvature": "two-step, no H"}
BUDGET = {**SHOWN, **COARSER}


def scatter(axis: Axes, frame: pd.DataFrame) -> pd.DataFrame:
    """Two-step push against the truth, bars: the calibrated 90 % bound; first order behind. Units of rms truth."""
    rows = frame[frame["part"] == "sample"]
    unit = float(np.sqrt(np.mean(rows["truth"] ** 2)))
    drawn = rows[["sample", "truth", "first_order", "two_step", "half_width"]].reset_index(drop=True)
    drawn[["truth", "first_order", "two_step", "half_width"]] /= unit
    points: dict[str, Any] = {"linestyle": "none", "markersize": 2}
    axis.plot(
        drawn["truth"], drawn["first_order"], marker=MARKERS[1], color=COLOURS[1], label=SHOWN["first-order"], **points
    )
    axis.errorbar(
        drawn["truth"],
        drawn["two_step"],
        yerr=drawn["half_width"],
        marker=MARKERS[3],
        color=COLOURS[3],
        elinewidth=0.5,
        capsize=0,
        label=SHOWN["two-step"],
        **points,
    )
    low, high = drawn["truth"].min(), drawn["truth"].max()
    axis.plot([low, high], [low, high], color=GUIDE, zorder=0)
    axis.set(xlabel="retraining", ylabel="predicted influence")
    return drawn


def ranks(axis: Axes, frame: pd.DataFrame, *, x: str) -> pd.DataFrame:
    """Spearman of every estimator against x, mean ± s.e. over seeds."""
    numbers = summary(frame[frame["part"] == "estimator"], [x, "estimator"], ["spearman"])
    curves(axis, numbers, x=x, group="estimator", labels=_present(SHOWN, numbers))
    axis.set(ylabel="Spearman with retraining")
    return numbers


def budget(axis: Axes, frame: pd.DataFrame) -> pd.DataFrame:
    """Relative error of every estimator, mean ± s.e. over seeds, as bars."""
    numbers = summary(frame[frame["part"] == "estimator"], ["estimator"], ["relative_error"])
    for place, (name, label) in enumerate(_present(BUDGET, numbers).items()):
        chosen = numbers[numbers["estimator"] == name]
        colour = COLOURS[place] if name in SHOWN else "0.6"
        axis.barh(label, chosen["mean"], xerr=chosen["se"].fillna(0.0), color=colour, height=0.7, capsize=1.5)
    axis.invert_yaxis()
    axis.set(xlabel="‖estimate − truth‖/‖truth‖")
    axis.grid(axis="x")
    return numbers


def _present(labels: dict[str, str], numbers: pd.DataFrame) -> dict[str, str]:
    return {name: label for name, label in labels.items() if (numbers["estimator"] == name).any()}


def legend(figure: Figure, axis: Axes) -> None:
    shared_legend(figure, axis)


def paired(frame: pd.DataFrame, better: str, worse: str, *, x: str) -> pd.DataFrame:
    """Difference in Spearman of two estimators at each x, paired over seeds, with its 95 % interval (Student's t)."""
    rows = frame[(frame["part"] == "estimator") & frame["estimator"].isin([better, worse])]
    table = rows.pivot_table(index=[x, "replicate"], columns="estimator", values="spearman")
    difference = (table[better] - table[worse]).groupby(level=0, sort=True)
    numbers = difference.agg(["mean", "sem", "count"]).reset_index()
    half = student.ppf(0.975, numbers["count"] - 1) * numbers["sem"]
    return numbers.assign(better=better, worse=worse, low=numbers["mean"] - half, high=numbers["mean"] + half)


def in_words(frame: pd.DataFrame, *, x: str) -> str:
    """The paired differences, and what the verdict and the proxies were worth, for a caption."""
    parts = []
    for better, worse in (("two-step", "first-order"), ("first-order", "sgd")):
        found = [
            f"{row.mean_:+.3f}" + ("" if np.isnan(row.low) else f" [{row.low:+.3f}, {row.high:+.3f}]")
            for row in paired(frame, better, worse, x=x).rename(columns={"mean": "mean_"}).itertuples()
        ]
        parts.append(f"{ESTIMATORS[better]} − {ESTIMATORS[worse]}: {', '.join(found)}")
    runs = frame[frame["part"] == "run"]
    right = (runs["free_label"] == runs["true_label"]).mean()
    return (
        "Paired differences in Spearman in the order of the axis, 95 % intervals over "
        f"{counted([runs['replicate'].nunique()], 'seeds')}: {'; '.join(parts)}. Verdict without retraining right on "
        f"{right:.0%} of {counted([len(runs)], 'runs')}; coverage of the 90 % bound "
        f"{runs['coverage'].mean():.0%}; proxy of first order: Spearman with the error "
        f"{runs['first_order_proxy_spearman'].mean():.2f}, within a factor of two for "
        f"{runs['first_order_proxy_within_two'].mean():.0%}; null effect at most {runs['null_effect'].max():.1e} of "
        "the median effect."
    )
