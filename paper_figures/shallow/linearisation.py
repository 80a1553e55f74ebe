"""Error of each rung of a network's ladder, and the linearisation error predicted without retraining."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.drawing.curves import bars
from paper_figures.drawing.style import COLOURS, GUIDE, MARKERS, PAGE, Drawing, mean_and_error
from simulations.engine.store import Store
from simulations.engine.study import find_study
from simulations.studies.shallow.linearisation import AXES, CENTRE, REAL, RETRAINED

RUNGS = ("linear output", "kernel machine", "newton, full Hessian", "influence", "unit curvature", "projected")
FORETOLD = {
    "slope": "slope on the true error, trusted points",
    "partial_spearman": "rank correlation given |influence|, leverage",
    "spearman_influence": "rank correlation of |influence| alone",
    "spearman_leverage": "rank correlation of leverage alone",
}
SHOWN = (2e-3, 5.0)  # relative errors
KEYS = ["data", "n", "width", "ridge", "noise"]


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("linearisation"))
    numbers = _numbers(frame)
    figure = Figure(figsize=(PAGE, 5.4), layout="constrained")
    layout = figure.add_gridspec(2, len(AXES), height_ratios=(1, 1.15))
    first: Axes | None = None
    for column, axis_name in enumerate(AXES):
        axis = figure.add_subplot(layout[0, column], sharey=first)
        axis.tick_params(labelleft=first is None)
        first = first or axis
        _along(axis, numbers, axis_name)
    assert first is not None
    first.set_ylabel("relative error")
    handles, labels = first.get_legend_handles_labels()
    first.set_ylim(*SHOWN)
    half = len(AXES) // 2
    left = figure.add_subplot(layout[1, :half])
    right = figure.add_subplot(layout[1, half:], sharey=left)
    _by_data(left, numbers, {rung: rung for rung in RUNGS}, "relative_error")
    _by_data(right, numbers, FORETOLD, None)
    left.set_xscale("log")
    left.set_xlim(*SHOWN)
    left.set_xlabel("relative error")
    left.invert_yaxis()
    right.axvspan(0.8, 1.25, color="0.93", zorder=0)
    right.axvline(1.0, color=GUIDE, linewidth=0.8, zorder=0)
    right.tick_params(labelleft=False)
    right.set_xlabel("predicted against true linearisation error")
    figure.legend(handles, labels, loc="outside lower left", ncols=2, columnspacing=1.0)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower right")
    return Drawing(figure, numbers, _caption(frame, numbers))


def _numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard error over replicates: errors of the rungs, and the measures of the prediction."""
    exact = frame[(frame["part"] == "rung") & (frame["against"] == "exact") & frame["rung"].isin(RUNGS)]
    pieces = [_means(exact.rename(columns={"rung": "series"}), "relative_error")]
    prediction = frame[frame["part"] == "prediction"]
    pieces += [_means(prediction.assign(series=measure), measure) for measure in FORETOLD]
    return pd.concat(pieces, ignore_index=True).astype({"replicates": int})


def _means(frame: pd.DataFrame, measure: str) -> pd.DataFrame:
    grouped = frame.groupby([*KEYS, "series"])[measure]
    return grouped.apply(mean_and_error).unstack().reset_index().assign(measure=measure)


def _along(axis: Axes, numbers: pd.DataFrame, name: str) -> None:
    """Relative error of the rungs while one parameter of the teacher data moves."""
    shown = numbers[(numbers["measure"] == "relative_error") & (numbers["data"] == CENTRE["data"])]
    for other in set(AXES) - {name}:
        shown = shown[shown[other] == CENTRE[other]]
    for place, rung in enumerate(RUNGS):
        line = shown[shown["series"] == rung].sort_values(name)
        bars(axis, line, x=name, place=place, label=rung)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xticks(AXES[name], [f"{value:g}" for value in AXES[name]])
    axis.minorticks_off()
    axis.set_xlabel({"noise": "noise (s.d.)", "ridge": "ridge λ"}.get(name, name))
    axis.grid(axis="y")


def _by_data(axis: Axes, numbers: pd.DataFrame, series: dict[str, str], measure: str | None) -> None:
    """One row for each real data set and ridge, one marker for each series."""
    there = set(zip(numbers["data"], numbers["ridge"], strict=True))
    places = [(name, ridge) for name, ridges in REAL.items() for ridge in ridges if (name, ridge) in there]
    for colour, (key, label) in enumerate(series.items()):
        shown = numbers[numbers["series"] == key]
        shown = shown[shown["measure"] == (measure or key)].set_index(["data", "ridge"])
        rows = [shown.loc[[place]].iloc[0] for place in places]  # NaN, and so no marker, where a rung is unavailable
        axis.errorbar(
            [row["mean"] for row in rows],
            range(len(places)),
            xerr=[row["se"] if row["replicates"] > 1 else 0.0 for row in rows],
            color=COLOURS[colour],
            marker=MARKERS[colour],
            linestyle="none",
            label=label,
        )
    axis.set_yticks(range(len(places)), [f"{name.replace('_', ' ')}, λ = {ridge:g}" for name, ridge in places])
    axis.grid(axis="x")


def _caption(frame: pd.DataFrame, numbers: pd.DataFrame) -> str:
    bound, basin = (frame[frame["part"] == part] for part in ("bound", "basin"))
    prediction = frame[frame["part"] == "prediction"]
    replicates = sorted(set(numbers["replicates"]) - {0})
    within = prediction["slope"].between(0.8, 1.25).mean()
    centre = ", ".join(f"{key} {CENTRE[key]:g}" for key in AXES)
    real = frame.loc[frame["data"] != "teacher", "n"].iloc[0]
    missing = int(frame["unavailable"].notna().sum()) if "unavailable" in frame else 0
    return (
        "Two-layer tanh networks at a certified minimum with ridge (sum convention): relative error of each rung "
        "against exact leave-one-out in the same basin (dimensionless). Top: teacher data, one parameter moves from "
        f"{centre}. Bottom left: real data, n = {real}, 12 units (breast cancer: logistic, digits: softmax margin). "
        "The full Hessian keeps Σ r∇²f, which the kernel machine and everything below it drop; projected: k = p/2, "
        f"μ = λ ({missing} rungs unavailable). Bottom right: the error of the kernel machine predicted from "
        "derivatives at the optimum alone; slope where the second term of the series "
        f"is at most a tenth of the first (mean {prediction['trusted'].mean():.0%} of the points, which carry "
        f"{prediction['trusted_error'].mean():.0%} of the squared error); grey: 0.8 to 1.25, where {within:.0%} of the "
        f"networks lie. {frame['queries'].max()} queries; mean ± s.e., networks for each point: "
        f"{' to '.join(map(str, replicates))} (no bars for one). The bound ½ sup‖∇²g‖‖Δ‖² is available for "
        f"{bound['certified_after'].mean():.0%} of the points with ‖Δ‖ certified at the minimum found, for "
        f"{bound['certified_before'].mean():.0%} before any refit, has median slack "
        f"{bound['median_slack'].median():.0f} and {int(bound['violations'].sum())} violations. "
        f"Retrained from the start, {basin['left_basin'].mean():.0%} of {RETRAINED} points per network leave the basin."
    )
