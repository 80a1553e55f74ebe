"""One page for the whole project: what TRAK loses, predicted; its error bars; trajectories; the ridge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.drawing.style import COLOURS, GUIDE, MARKERS, PAGE, Drawing
from simulations.engine.store import Store
from simulations.engine.study import find_study

RUNGS = ("newton", "influence", "unit curvature", "no ridge", "projected", "ensemble")
FORMULAS = {"sgd": "SGD formula", "first-order": "AdamW-influence", "two-step": "two-step push"}
TITLES = {
    "a": "what each step costs",
    "b": "ranks predicted",
    "c": "error bars",
    "d": "the ridge from the recipe",
    "e": "trajectories",
    "f": "where no estimate holds",
}
LAWS = {
    "rank_grid": ["n", "p", "k", "ridge", "signal", "projected_ridge", "ensemble", "loss", "covariance"],
    "rank_law": ["p_over_n", "k", "ensemble", "projected_ridge"],
    "spectrum": ["covariance", "k"],
    "leverage": ["loss", "spread"],
}

LAWS_IN_WORDS = {
    "rank_grid": "48 settings",
    "rank_law": "k, J and ridge",
    "spectrum": "five covariances",
    "leverage": "unequal leverages",
}
DATA_SETS = {
    "breast_cancer": "breast cancer",
    "digits_3_vs_8": "digits 3 vs 8",
    "gaussian": "Gaussian",
    "randhie": "RAND HIE",
}


def draw(results: Path) -> Drawing:
    figure = Figure(figsize=(PAGE, 3.9), layout="constrained")
    panels = figure.subplots(2, 3)
    drawn = (_ladder, _predicted, _error_bars, _ridge, _trajectory, _remedy)
    pieces = [
        piece(axis, results).assign(panel=letter)
        for piece, axis, letter in zip(drawn, panels.flat, "abcdef", strict=True)
    ]
    for axis, letter in zip(panels.flat, "abcdef", strict=True):
        axis.set_title(f"{letter}  {TITLES[letter]}", loc="left")
    return Drawing(figure, pd.concat(pieces, ignore_index=True), CAPTION)


def _load(results: Path, name: str) -> pd.DataFrame:
    return Store(results).load(find_study(name))


def _legend_below(axis: Axes) -> None:
    axis.legend(fontsize=5, loc="upper center", bbox_to_anchor=(0.3, -0.3), ncols=3, columnspacing=1.0)


def _ladder(axis: Axes, results: Path) -> pd.DataFrame:
    rows = _load(results, "ladder")
    rows = rows[rows["against"] == "exact"]
    table = rows.groupby(["data", "rung"])["kendall"].mean().unstack()[list(RUNGS)]
    for place, (data, values) in enumerate(table.iterrows()):
        axis.plot(
            values,
            range(len(RUNGS)),
            color=COLOURS[place],
            marker=MARKERS[place],
            label=DATA_SETS.get(str(data), str(data)),
        )
    axis.set_yticks(range(len(RUNGS)), RUNGS)
    axis.invert_yaxis()
    axis.set_xlabel("Kendall's τ with exact leave-one-out")
    _legend_below(axis)
    return table.reset_index()


def _predicted(axis: Axes, results: Path) -> pd.DataFrame:
    axis.plot([0, 1], [0, 1], color=GUIDE)
    pieces = []
    for place, (name, setting) in enumerate(LAWS.items()):
        rows = _load(results, name)
        if "score" in rows:
            rows = rows[rows["score"] == "trak"]
        law = rows[rows["part"] == "law"].groupby(setting)["kendall"].mean()
        data = rows[rows["part"] == "data"].groupby(setting)["kendall"].agg(["mean", "sem"])
        data = data.assign(predicted=law).dropna(subset="predicted")
        axis.errorbar(
            data["predicted"],
            data["mean"],
            data["sem"],
            marker=MARKERS[place],
            color=COLOURS[place],
            linestyle="none",
            markersize=2.5,
            label=LAWS_IN_WORDS[name],
        )
        pieces.append(data.reset_index().assign(study=name))
    axis.set_xlabel("predicted, nothing fitted")
    axis.set_ylabel("simulated Kendall's τ")
    axis.legend(fontsize=5)
    return pd.concat(pieces, ignore_index=True)


def _error_bars(axis: Axes, results: Path) -> pd.DataFrame:
    rows = _load(results, "projection_law")
    for place, (name, part) in enumerate(rows.groupby("features")):
        axis.loglog(
            part["predicted_sd"], part["simulated_sd"], MARKERS[place], color=COLOURS[place], markersize=1.5, label=name
        )
    ends = [rows["predicted_sd"].min(), rows["predicted_sd"].max()]
    axis.plot(ends, ends, color=GUIDE, zorder=0)
    axis.set_xlabel("predicted error bar of a score")
    axis.set_ylabel("over repeated projections")
    axis.legend(fontsize=5)
    return rows[["features", "predicted_sd", "simulated_sd"]]


def _ridge(axis: Axes, results: Path) -> pd.DataFrame:
    rows = _load(results, "ridge_rule")
    rows = rows.assign(name=rows["kernel"].str.replace("projected, k = 200, ", ""))
    recipes = list(dict.fromkeys(rows["recipe"]))
    for place, kernel in enumerate(("softmax block", "curvature-weighted", "rule", "μ = 0")):
        shown = rows[(rows["name"] == kernel) & (rows["exponent"] == 0)].set_index("recipe").loc[recipes]
        axis.errorbar(
            shown["lds"],
            range(len(recipes)),
            xerr=shown["se"],
            marker=MARKERS[place],
            color=COLOURS[place],
            linestyle="none",
            label={"rule": "TRAK, ridge of the rule", "μ = 0": "TRAK, no ridge", "curvature-weighted": "margin"}.get(
                kernel, kernel
            ),
        )
    axis.set_yticks(range(len(recipes)), recipes)
    axis.set_xlabel("LDS (60 half or quarter subsets)")
    axis.set_xlim(0, 1)
    _legend_below(axis)
    return rows[rows["exponent"] == 0][["recipe", "name", "lds", "se"]]


def _trajectory(axis: Axes, results: Path) -> pd.DataFrame:
    rows = _load(results, "optimizer_mismatch")
    rows = rows[(rows["optimizer"] == "adamw") & rows["formula"].isin(FORMULAS)]
    table = rows.groupby(["formula", "learning_rate"])["spearman"].agg(["mean", "sem"])
    for place, (formula, label) in enumerate(FORMULAS.items()):
        part = table.loc[formula]
        axis.errorbar(part.index, part["mean"], part["sem"], marker=MARKERS[place], color=COLOURS[place], label=label)
    axis.set_xscale("log")
    axis.set_xlabel("learning rate of AdamW")
    axis.set_ylabel("Spearman's ρ with retraining")
    axis.legend(fontsize=5)
    return table.reset_index()


def _remedy(axis: Axes, results: Path) -> pd.DataFrame:
    rows = _load(results, "retrain_top")
    rows = rows[np.isclose(rows["learning_rate"], 0.03)]
    table = rows.groupby(["order", "retrained"])["relative_error"].agg(["mean", "sem"])
    for place, order in enumerate(("largest", "random")):
        part = table.loc[order]
        axis.errorbar(
            part.index, part["mean"], part["sem"], marker=MARKERS[place], color=COLOURS[place], label=f"{order} first"
        )
    axis.set_xlabel("samples retrained, of 200")
    axis.set_ylabel("relative error")
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=5)
    return table.reset_index()


CAPTION = (
    "The project on one page, quick sizes, all numbers ours. (a) Kendall's τ of each rung of the ladder with exact "
    "leave-one-out influence, five data sets (n = 307 to 20,140, k = p/2, ensemble of ten). (b) Kendall of TRAK with "
    "exact leave-one-out in four studies (n = 300 to 600, four losses, five covariances): the a-priori law against "
    "mean ± s.e. over data sets. (c) Standard deviation of single TRAK scores over 100 random projections against the "
    "law, digits (n = 150). (d) Linear datamodelling score of a 64-24-10 network on 250 digits under five recipes, ± "
    "s.e. over 60 queries: restored influence with the softmax block and the margin, and TRAK at k = 200 with the "
    "ridge of the rule and without. (e) Influence on AdamW runs against retraining (digits, n = 200, 60 steps; mean ± "
    "s.e. over 3 runs). (f) AdamW at learning rate .03: relative error after retraining some samples."
)
