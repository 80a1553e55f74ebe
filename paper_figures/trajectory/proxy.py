"""How well an attribution knows its own error: the index, the bound and the verdict, family by family."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.drawing.curves import shared_legend
from paper_figures.drawing.style import COLOURS, GUIDE, MARKERS, PAGE, Drawing
from paper_figures.drawing.words import plus_minus
from simulations.engine.store import Store
from simulations.engine.study import find_study
from simulations.findings.trajectory import Trial, verdict_trials
from simulations.studies.trajectory.proxy import AUDIT, CALIBRATION, judgements, label_by_length
from trak_theory.trajectory.reliability.labels import THRESHOLDS

TRUE = ("trust", "ranks only", "do not trust")
SAID = (*TRUE, "retrain a few to tell")
SHORT = ("trust", "ranks", "no", "few?")
TRIALS: dict[str, Trial] = {
    "right": "right",
    "abstaining": "abstaining",
    "too optimistic": "optimistic",
    "precision of trust": "precision",
}
INDEX = r"$\sqrt{\kappa^2 + \kappa_q^2}$"
VERDICTS = {"free_label": "free", "audited_label": "audited"}


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("proxy"))
    judged = judgements(frame)
    left_out = judged[judged["left_out"]]
    table = pd.concat([quality(own, name) for name, own in _groups(judged)], ignore_index=True)
    figure = Figure(figsize=(PAGE, 1.4 + 0.19 * max(12, judged["family"].nunique())), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.05], squeeze=False)[0]
    above, below = left.subfigures(2, 1, height_ratios=[1.35, 1], squeeze=False)[:, 0]
    _defects(above.subplots(), judged)
    _coverages(right.subplots(), table)
    axes = below.subplots(1, 2, width_ratios=[len(SAID), len(TRUE)])
    tables = [
        _confusion(axis, left_out, column, title) for axis, (column, title) in zip(axes, VERDICTS.items(), strict=True)
    ]
    axes[1].set(ylabel="", yticks=[])
    numbers = pd.concat([table, *tables], ignore_index=True)
    return Drawing(figure, numbers, _caption(frame, judged, table))


def _groups(judged: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Each family, then all that were left out of calibration and all that were not."""
    groups = [(str(name), own) for name, own in judged.groupby("family", sort=False)]
    for name, chosen in (("all left out", judged["left_out"]), ("all calibrated", ~judged["left_out"])):
        if chosen.any():
            groups.append((name, judged[chosen]))
    return groups


def quality(own: pd.DataFrame, name: str) -> pd.DataFrame:
    """Shares over the runs of a group with their standard errors: one row a measure.

    right, abstaining, too optimistic; precision: of the runs called trust, the share that deserves it; coverage of the
    free bound and of the calibrated one.
    """
    measures = {"coverage": own["coverage"], "calibrated coverage": own["calibrated_coverage"]}
    for column, said in (("free_label", "free"), ("audited_label", "audited")):
        measures |= {f"{said} {name}": verdict_trials(own, column, kind) for name, kind in TRIALS.items()}
    rows = [
        {"panel": "quality", "family": name, "left_out": bool(own["left_out"].iloc[0]), "measure": measure}
        | {"mean": values.mean(), "se": values.astype(float).std() / np.sqrt(max(1, len(values))), "runs": len(values)}
        for measure, values in measures.items()
    ]
    return pd.DataFrame(rows)


def _defects(axis: Axes, judged: pd.DataFrame) -> None:
    for place, (chosen, name) in enumerate(((judged["left_out"], "left out"), (~judged["left_out"], "calibrated"))):
        own = judged[chosen]
        error = own["relative_error"].clip(upper=10)
        axis.plot(own["index"], error, MARKERS[place], color=COLOURS[place], markersize=2, label=name)
    for cut in THRESHOLDS.index:
        axis.axvline(cut, color=GUIDE, linewidth=0.6, zorder=0)
    axis.axhline(THRESHOLDS.error, color=GUIDE, linewidth=0.6, linestyle=":", zorder=0)
    axis.set(xscale="log", yscale="log", xlabel=INDEX, ylabel="relative error", title="error against index")
    axis.tick_params(which="minor", labelbottom=False, labelleft=False)
    shared_legend(axis.figure, axis)


def _coverages(axis: Axes, table: pd.DataFrame) -> None:
    lowest = table.loc[table["measure"].str.endswith("coverage"), "mean"].min() - 0.05
    names = [name for name in dict.fromkeys(table["family"]) if not name.startswith("all ")]
    for place, measure in enumerate(("coverage", "calibrated coverage")):
        own = table[table["measure"] == measure].set_index("family").loc[names]
        label = ("free", f"{CALIBRATION} retrainings")[place]
        where = np.arange(len(names)) + 0.3 * (place - 0.5)
        error = own["se"].fillna(0.0)
        axis.errorbar(own["mean"], where, xerr=error, fmt=MARKERS[place], color=COLOURS[place], ms=3, label=label)
    axis.axvline(0.9, color=GUIDE, linewidth=0.6, zorder=0)
    axis.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axis.invert_yaxis()
    axis.set(xlim=(min(0.3, lowest), 1.02), xlabel="share covered", title="90 % bound, by family")
    axis.grid(axis="y")
    shared_legend(axis.figure, axis)


def _confusion(axis: Axes, frame: pd.DataFrame, column: str, title: str) -> pd.DataFrame:
    """Counts of true class against verdict, drawn as a table."""
    said_labels = SAID if column == "free_label" else TRUE
    counts = np.array(
        [
            [int(((frame["true_label"] == true) & (frame[column] == said)).sum()) for said in said_labels]
            for true in TRUE
        ]
    )
    axis.imshow(counts, cmap="Greys", vmin=0, vmax=2 * max(1, counts.max()))
    for row, place in np.ndindex(counts.shape):
        axis.text(place, row, f"{counts[row, place]}", ha="center", va="center")
    axis.set_xticks(range(len(said_labels)), SHORT[: len(said_labels)])
    axis.set_yticks(range(3), SHORT[:3])
    axis.tick_params(length=0)
    axis.set(title=title, xlabel="verdict", ylabel="truth")
    cells = [
        {"panel": column, "true_label": true, "label": said, "count": counts[i, j]}
        for i, true in enumerate(TRUE)
        for j, said in enumerate(said_labels)
    ]
    return pd.DataFrame(cells)


def _caption(frame: pd.DataFrame, judged: pd.DataFrame, table: pd.DataFrame) -> str:
    everything = table[table["family"].isin(["all left out", "all calibrated"])]
    told = [
        f"{name}: " + ", ".join(f"{row.measure} {plus_minus(row.mean, row.se)}" for row in own.itertuples())
        for name, own in everything.groupby("family", sort=False)
    ]
    columns = ("rate_times_steps", "true_label", "left_out")
    length, true_label, left_out = (judged[column].to_numpy() for column in columns)
    rival = ""
    if left_out.any() and not left_out.all():
        by_length = np.mean((label_by_length(length, true_label, ~left_out) == true_label)[left_out])
        rival = f" Two thresholds on learning rate × steps, fitted to the other families: right {by_length:.2f}."
    return (
        "How well a trajectory attribution knows its own error (ours; frozen push). Top left: relative error of each "
        "run (cut at 10) against √(κ² + κ_q²), the defects of its predicted paths and of the query along them; lines: "
        "the thresholds of the free verdict, and the error that trust allows. Right: share of rows covered by the 90 "
        "% bound, free and calibrated on a few retrainings of the run itself, mean ± s.e. over runs. Bottom left: "
        "confusion of the verdict (no: do not trust; few?: retrain a few to tell) on families left out of calibration "
        f"(trust: Spearman ≥ .95 and relative error ≤ .35; ranks: Spearman ≥ .8), audit of {AUDIT} retrainings. "
        f"{'; '.join(told)}.{rival} Runs of random length and batch size."
    )
