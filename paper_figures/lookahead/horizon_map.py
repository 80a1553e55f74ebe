"""The horizon that pays against the learning rate, and where it makes no difference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.drawing.curves import shared_legend
from paper_figures.drawing.style import COLOURS, GUIDE, MARKERS, PAGE, Drawing
from paper_figures.drawing.words import counted
from paper_figures.lookahead.lookahead_selection import TITLES
from simulations.engine.store import Store
from simulations.engine.study import find_study
from simulations.studies.lookahead.horizon_map import TO_THE_END
from trak_theory.trajectory import HorizonMap
from trak_theory.trajectory.selection.horizon import MIN_TASKS


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("horizon_map"))
    settings = [name for name in TITLES if name in set(frame["setting"])]
    figure = Figure(figsize=(PAGE, 2.5 * len(settings) + 0.3), layout="constrained")
    grid = figure.subplots(len(settings), 2, squeeze=False)
    pieces, recipes = [], []
    for (left, right), name in zip(grid, settings, strict=True):
        own = frame[frame["setting"] == name]
        chosen, tested = _map(own, "judge_loss"), _map(own, "test_loss")
        table = pd.DataFrame(chosen.table())
        pieces.append(pd.concat([table.assign(setting=name), _test_gains(tested)], axis=1))
        _curves(left, pieces[-1], chosen)
        _cells(right, table, chosen)
        left.set_title(TITLES[name], loc="left")
        recipes.append(f"{TITLES[name]}: {_recipe(chosen)}")
    shared_legend(figure, grid[0][0], title="learning rate")
    first = frame.iloc[0]
    numbers = pd.concat(pieces, ignore_index=True)
    caption = (
        f"How far to look ahead. AdamW, half of each candidate batch kept ({first['steps']} steps in the first "
        f"setting, {counted(numbers['replicates'], 'paired runs')}). "
        "Left: gain in test loss over random selection, 95 % Student "
        "intervals. Right: loss on a judge set against that of the best horizon K* of the learning rate; = "
        "where the interval of the paired difference covers zero (95 % for all pairs of horizons of a "
        "learning rate together). Recipe: the cheapest horizon without a difference from K*, of those better on "
        "average than all cheaper ones; its gain on the judge set is measured on runs that the choice did not see. "
        f"{' | '.join(recipes)}"
    )
    return Drawing(figure, numbers, caption)


def _map(own: pd.DataFrame, measure: str) -> HorizonMap:
    """The stored rows of one setting; a learning rate that lacks replicates of the others has NaN there."""
    index = ["seed", "replicate"]
    ahead = own[own["policy"] != "random"]
    rates, found = sorted(set(own["learning_rate"])), sorted(set(ahead["horizon"].astype(int)))
    horizons = [*(horizon for horizon in found if horizon != TO_THE_END), TO_THE_END]
    tasks = pd.MultiIndex.from_frame(own[index].drop_duplicates().sort_values(index))

    def values(rows: pd.DataFrame, column: str) -> np.ndarray:
        return rows.set_index(index)[column].reindex(tasks).to_numpy(float)

    by_rate = [own[own["learning_rate"] == rate] for rate in rates]
    cells = [[rows[rows["horizon"] == horizon] for horizon in horizons] for rows in by_rate]
    return HorizonMap(
        tuple(rates),
        tuple(None if horizon == TO_THE_END else horizon for horizon in horizons),
        np.array([[values(cell, measure) for cell in row] for row in cells]),
        np.array([values(rows[rows["policy"] == "random"], measure) for rows in by_rate]),
        np.array([[values(cell, f"longer_{measure}") for cell in row] for row in cells]),
        np.array([[cell["multiple"].mean() for cell in row] for row in cells]),
        "AdamW",
    )


def _recipe(chosen: HorizonMap) -> str:
    runs = np.sum(~np.isnan(chosen.random), axis=1).min()
    return "; ".join(chosen.recipe().split("\n")) if runs >= MIN_TASKS else f"none from fewer than {MIN_TASKS} runs"


def _test_gains(tested: HorizonMap) -> pd.DataFrame:
    gains = [tested.gain(rate, horizon) for rate in tested.learning_rates for horizon in tested.horizons]
    return pd.DataFrame(
        [{"test_gain": gain.mean, "low": gain.low, "high": gain.high, "replicates": gain.pairs} for gain in gains]
    )


def _names(chosen: HorizonMap) -> list[str]:
    return ["end" if horizon is None else str(horizon) for horizon in chosen.horizons]


def _curves(axis: Axes, numbers: pd.DataFrame, chosen: HorizonMap) -> None:
    places = np.arange(len(chosen.horizons))
    for k, rate in enumerate(chosen.learning_rates):
        own = numbers[numbers["learning_rate"] == rate]
        axis.errorbar(
            places + 0.06 * (k - (len(chosen.learning_rates) - 1) / 2),
            own["test_gain"],
            yerr=[own["test_gain"] - own["low"], own["high"] - own["test_gain"]],
            color=COLOURS[k],
            marker=MARKERS[k],
            label=f"{rate:g}",
        )
    axis.axhline(0.0, color=GUIDE, linewidth=0.6, zorder=0)
    axis.set(xlabel="horizon K", ylabel="test loss, gain over random")
    axis.set_xticks(places, _names(chosen))
    axis.grid(axis="y")


def _cells(axis: Axes, table: pd.DataFrame, chosen: HorizonMap) -> None:
    """One field for each pair: K*, no difference, or the mean loss above K*'s."""
    shape = (len(chosen.learning_rates), len(chosen.horizons))
    loss = table["loss"].to_numpy().reshape(shape)
    above = loss - loss.min(axis=1, keepdims=True)
    text = table["gain_over_best"].to_numpy().reshape(shape)
    kinds = np.array([[0 if cell == "best" else 1 if cell.startswith("no") else 2 for cell in row] for row in text])
    axis.imshow(np.choose(kinds, [0.35, 0.12, 0.0]).T, cmap="Blues", vmin=0, vmax=1, aspect="auto", origin="lower")
    for (row, column), kind in np.ndenumerate(kinds):
        label = ["K*", "=", f"+{above[row, column]:.3f}"][kind]
        axis.text(row, column, label, ha="center", va="center")
    axis.set_xticks(range(shape[0]), [f"{rate:g}" for rate in chosen.learning_rates])
    axis.set_yticks(range(shape[1]), _names(chosen))
    axis.set(xlabel="learning rate", ylabel="horizon K")
