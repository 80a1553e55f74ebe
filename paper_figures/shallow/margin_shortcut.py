"""TRAK's scalar margin against the full block of softmax outputs: leave-one-out ranks and datamodelling score."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.drawing.curves import bars, shared_legend
from paper_figures.drawing.style import COLOURS, GUIDE, MARKERS, PAGE, Drawing, mean_and_error
from paper_figures.drawing.words import counted, plus_minus
from simulations.engine.store import Store
from simulations.engine.study import find_study

RUNGS = ("linear output", "kernel machine", "newton", "influence", "unit curvature", "no ridge", "projected")
OUTPUTS = ("block", "margin", "margin, unit curvature")


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("margin_shortcut"))
    numbers = _numbers(frame)
    leave, scores = (numbers[numbers["measure"] == measure] for measure in ("kendall", "lds"))
    ridges = sorted(leave["ridge"].unique())
    sizes = sorted(set(zip(scores["n"], scores["width"], strict=True)))
    figure = Figure(figsize=(PAGE, 4.9), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1.15, 1], squeeze=False)[:, 0]
    panels = above.subplots(1, len(ridges), squeeze=False)[0]
    for axis, ridge in zip(panels, ridges, strict=True):
        _rungs(axis, leave[leave["ridge"] == ridge])
        axis.set_title(f"leave-one-out, λ = {ridge:g}")
        axis.tick_params(labelleft=axis is panels[0])
    panels = below.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    for axis, (n, width) in zip(panels, sizes, strict=True):
        _scores(axis, scores[(scores["n"] == n) & (scores["width"] == width)])
        axis.set_title(f"subsets, n = {n:g}, m = {width:g}")
    panels[0].set_ylabel("LDS")
    shared_legend(figure, panels[0])
    return Drawing(figure, numbers, _caption(frame))


def _numbers(frame: pd.DataFrame) -> pd.DataFrame:
    keys = {"kendall": ["ridge", "rung"], "lds": ["n", "width", "factor"]}
    pieces = []
    for measure, key in keys.items():
        grouped = frame[frame[measure].notna()].groupby([*key, "output"])[measure]
        pieces.append(grouped.apply(mean_and_error).unstack().reset_index().assign(measure=measure))
    return pd.concat(pieces, ignore_index=True).astype({"replicates": int})


def _rungs(axis: Axes, numbers: pd.DataFrame) -> None:
    for place, output in enumerate(OUTPUTS[:2]):
        rows = numbers[numbers["output"] == output].set_index("rung").loc[list(RUNGS)]
        axis.errorbar(
            rows["mean"],
            list(RUNGS),
            xerr=rows["se"].fillna(0.0),
            color=COLOURS[place],
            marker=MARKERS[place],
            linestyle="none",
        )
    axis.set_xlim(-0.1, 1.0)
    axis.set_xlabel("Kendall's τ")
    axis.invert_yaxis()
    axis.grid(axis="x")


def _scores(axis: Axes, numbers: pd.DataFrame) -> None:
    for place, output in enumerate(OUTPUTS):
        line = numbers[numbers["output"] == output].sort_values("factor")
        bars(axis, line, x="factor", place=place, label=output)
    axis.axvline(1.0, color=GUIDE, linestyle="--", zorder=0)
    axis.set_xscale("log", base=2)
    axis.set_xlabel("ridge / rule's ridge")
    axis.grid(axis="y")


def _caption(frame: pd.DataFrame) -> str:
    leave, scores = (frame[frame["truth"] == truth] for truth in ("leave-one-out", "datamodels"))
    rule = scores[scores["factor"] == 1.0].pivot(index=["n", "width", "replicate"], columns="output", values="lds")
    gap = mean_and_error(rule["block"] - rule["margin"])
    first, second = leave.iloc[0], scores.iloc[0]
    runs = counted([leave["replicate"].nunique()], "networks")
    return (
        "Ten digits. Above: Kendall's τ of each rung with exact leave-one-out of the query margin, softmax networks of "
        f"{first['width']} tanh units at their optimum (n = {first['n']}, 16 principal components, p = {first['p']}, "
        f"k = p/2): the full block of ten outputs against TRAK's scalar margin, mean ± s.e. over {runs}. "
        "Below: linear datamodelling score of ReLU networks trained by gradient descent, kernels with a ridge set "
        f"from the training recipe alone (dashed) and around it; {second['subsets']:g} half "
        f"subsets, p = {second['p']}. At the rule's ridge the block is ahead of the margin by "
        f"{plus_minus(gap['mean'], gap['se'], 3)} ({counted([gap['replicates']], 'networks')}). "
        f"{second['queries']} queries; dimensionless."
    )
