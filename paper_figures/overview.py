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

COMPRESSION = 0.5
RUNGS = ("newton", "influence", "unit curvature", "no ridge", "projected", "ensemble")
FORMULAS = {"sgd": "SGD formula", "first-order": "AdamW-influence", "two-step": "two-step push"}
TITLES = {
    "a": "what each step costs",
    "b": "ranks predicted",
    "c": "error bars",
    "d": "the ridge from the recipe",
    "e": "trajectories",
    "f": "where estimates fail",
}
LAWS = {
    "rank_grid": ["n", "p", "k", "ridge", "signal", "projected_ridge", "ensemble", "loss", "covariance"],
    "rank_law": ["n", "p_over_n", "k", "ensemble", "projected_ridge"],
    "spectrum": ["n", "covariance", "k"],
    "leverage": ["n", "loss", "spread"],
}
READ = ("ladder", *LAWS, "projection_law", "ridge_rule", "optimizer_mismatch", "retrain_top")
Stored = dict[str, pd.DataFrame]

LAWS_IN_WORDS = {
    "rank_grid": "random settings",
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
    rows = {name: _load(results, name) for name in READ}
    figure = Figure(figsize=(PAGE, 6.1), layout="constrained")
    panels = figure.subplots(2, 3)
    drawn = (_ladder, _predicted, _error_bars, _ridge, _trajectory, _remedy)
    pieces = [
        piece(axis, rows).assign(panel=letter) for piece, axis, letter in zip(drawn, panels.flat, "abcdef", strict=True)
    ]
    for axis, letter in zip(panels.flat, "abcdef", strict=True):
        axis.set_title(f"{letter}  {TITLES[letter]}", loc="left")
    return Drawing(figure, pd.concat(pieces, ignore_index=True), _caption(rows))


def _load(results: Path, name: str) -> pd.DataFrame:
    return Store(results).load(find_study(name))


def _legend_below(axis: Axes, *, left: float = 0.0, columns: int = 1) -> None:
    """`left` in widths of the panel: under the names of rows, where there are some."""
    axis.legend(
        loc="upper left", bbox_to_anchor=(left, -0.3), ncols=columns, columnspacing=1.0, borderpad=0, labelspacing=0.3
    )


def _ladder(axis: Axes, stored: Stored) -> pd.DataFrame:
    rows = stored["ladder"]
    rows = rows[(rows["against"] == "exact") & (rows["k_over_p"] == COMPRESSION)]
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
    axis.set_xlabel("Kendall's τ with exact")
    _legend_below(axis, left=-0.75, columns=2)
    return table.reset_index()


def _predicted(axis: Axes, stored: Stored) -> pd.DataFrame:
    axis.axhline(0.0, color=GUIDE, zorder=0)
    pieces = []
    for place, (name, setting) in enumerate(LAWS.items()):
        rows = stored[name]
        if "score" in rows:
            rows = rows[rows["score"] == "trak"]
        law = rows[rows["part"] == "law"].groupby(setting)["kendall"].mean()
        data = rows[rows["part"] == "data"].groupby(setting)["kendall"].agg(["mean", "sem"])
        data = data.assign(predicted=law).dropna(subset="predicted")
        axis.errorbar(
            data["predicted"],
            data["mean"] - data["predicted"],
            data["sem"],
            marker=MARKERS[place],
            color=COLOURS[place],
            linestyle="none",
            markersize=2.5,
            label=LAWS_IN_WORDS[name],
        )
        pieces.append(data.reset_index().assign(study=name))
    axis.set_xlabel("predicted Kendall's τ")
    axis.set_ylabel("simulated − predicted")
    _legend_below(axis)
    return pd.concat(pieces, ignore_index=True)


def _error_bars(axis: Axes, stored: Stored) -> pd.DataFrame:
    rows = stored["projection_law"]
    for place, (name, part) in enumerate(rows.groupby("features")):
        ratio = part["simulated_sd"] / part["predicted_sd"]
        axis.semilogx(part["predicted_sd"], ratio, MARKERS[place], color=COLOURS[place], markersize=1.5, label=name)
    noise = 2 / np.sqrt(2 * (rows["draws"].min() - 1))  # two standard errors of a simulated standard deviation
    axis.axhspan(1 - noise, 1 + noise, color="0.92", zorder=0)
    axis.set_xlabel("predicted error bar")
    axis.set_ylabel("simulated/predicted")
    _legend_below(axis, left=-0.3)
    return rows[["features", "predicted_sd", "simulated_sd"]]


def _ridge(axis: Axes, stored: Stored) -> pd.DataFrame:
    rows = stored["ridge_rule"]
    rows = rows[rows["n"] == rows["n"].max()]
    rows = rows.assign(name=rows["kernel"].str.replace(r"projected, k = \d+, ", "", regex=True))
    rows = rows.drop_duplicates(["recipe", "name", "exponent"])  # the first k of a recipe
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
            label={"rule": "TRAK, rule's ridge", "μ = 0": "TRAK, no ridge", "curvature-weighted": "margin"}.get(
                kernel, kernel
            ),
        )
    axis.set_yticks(range(len(recipes)), recipes)
    axis.set_xlabel("LDS")
    axis.set_xlim(0, 1)
    _legend_below(axis, left=-0.75, columns=2)
    return rows[rows["exponent"] == 0][["recipe", "name", "lds", "se"]]


def _trajectory(axis: Axes, stored: Stored) -> pd.DataFrame:
    rows = stored["optimizer_mismatch"]
    rows = rows[(rows["optimizer"] == "adamw") & rows["formula"].isin(FORMULAS)]
    table = rows.groupby(["formula", "learning_rate"])["spearman"].agg(["mean", "sem"])
    for place, (formula, label) in enumerate(FORMULAS.items()):
        part = table.loc[formula]
        axis.errorbar(part.index, part["mean"], part["sem"], marker=MARKERS[place], color=COLOURS[place], label=label)
    axis.set_xscale("log")
    axis.set_xlabel("learning rate of AdamW")
    axis.set_ylabel("Spearman with retraining")
    _legend_below(axis)
    return table.reset_index()


def _remedy(axis: Axes, stored: Stored) -> pd.DataFrame:
    rows = stored["retrain_top"]
    rows = rows[np.isclose(rows["learning_rate"], 0.03)]
    table = rows.groupby(["order", "retrained"])["relative_error"].agg(["mean", "sem"])
    for place, order in enumerate(("largest", "random")):
        part = table.loc[order]
        axis.errorbar(
            part.index, part["mean"], part["sem"], marker=MARKERS[place], color=COLOURS[place], label=f"{order} first"
        )
    axis.set_xlabel("samples retrained")
    axis.set_ylabel("relative error")
    axis.set_ylim(bottom=0)
    _legend_below(axis)
    return table.reset_index()


def _caption(stored: Stored) -> str:
    ladder, *_, scores, ridges, runs, again = (stored[name] for name in READ)
    ridges = ridges[ridges["n"] == ridges["n"].max()]
    laws = pd.concat([stored[name][["n", "replicate", "part"]] for name in LAWS])
    return (
        "The project on one page, all numbers ours. (a) Kendall's τ of each rung of the ladder with exact "
        f"leave-one-out influence, {ladder['data'].nunique()} data sets (n = {_range(ladder['n'])}, ensemble of "
        f"{ladder['ensemble'].iloc[0]}, k = p/2); means. (b) Kendall of TRAK with exact leave-one-out in four studies "
        f"(n = {_range(laws['n'])}): simulated (mean ± s.e. over data sets) less the a-priori law, against the law. "
        f"(c) Standard deviation of single TRAK scores over {_range(scores['draws'])} random projections over that of "
        f"the law (band: ± 2 s.e.), digits (n = {_range(scores['n'])}). (d) Linear datamodelling score of a "
        f"64-{ridges['hidden'].iloc[0]}-10 network on {ridges['n'].iloc[0]} digits under {ridges['recipe'].nunique()} "
        f"recipes, ± s.e. over {ridges['queries'].iloc[0]} queries: restored influence with the softmax block and the "
        "margin, and TRAK with the ridge of the rule and without. (e) Influence on AdamW runs against retraining "
        f"(digits, n = {runs['n'].iloc[0]}, {runs['steps'].iloc[0]} steps; mean ± s.e. over "
        f"{runs['replicate'].nunique()} runs). (f) AdamW at learning rate .03: relative error after retraining some of "
        f"{again['n'].iloc[0]} samples (mean ± s.e. over {again['replicate'].nunique()} runs)."
    )


def _range(values: pd.Series) -> str:
    low, high = values.min(), values.max()
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
