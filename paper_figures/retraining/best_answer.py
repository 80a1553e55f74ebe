"""LDS of the best prediction of retraining on half of the points against the number of retrainings."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from paper_figures.drawing.curves import curves, lds_by_recipe, summary
from paper_figures.drawing.style import COLOURS, Drawing
from paper_figures.drawing.words import counted
from simulations.engine.store import Store
from simulations.engine.study import find_study
from simulations.studies.retraining.best_answer import ANSWERS, AVERAGED, LINEAR, NETWORK, STARTS, SUM

LINES = {SUM: ":", LINEAR: "--", NETWORK: "-."}  # without retrainings only
STACKS = {answer: answer for answer in ANSWERS if answer not in LINES}


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("best_answer"))
    frame = frame[frame["n"] == frame["n"].max()]
    numbers = summary(frame, ["recipe", "answer", "m"], ["lds"])
    figure = lds_by_recipe(numbers, _answers, columns=3)
    return Drawing(figure, numbers, _caption(frame, numbers))


def _answers(axis: Axes, numbers: pd.DataFrame) -> None:
    curves(axis, numbers, x="m", group="answer", labels=STACKS)
    for place, (answer, line) in enumerate(LINES.items(), len(STACKS)):
        level = numbers.loc[numbers["answer"] == answer, "mean"].item()
        axis.axhline(level, color=COLOURS[place], linestyle=line, label=answer, zorder=0)
    axis.set_xlabel("retrained subsets m")
    axis.set_xticks(sorted(set(numbers["m"])))


def _caption(frame: pd.DataFrame, numbers: pd.DataFrame) -> str:
    first = frame.iloc[0]
    again = frame.loc[frame["answer"].str.startswith("retraining"), "lds"]
    return (
        f"Spearman correlation with the margins of retrained 64-{first['hidden']}-10 ReLU networks, {first['n']} "
        f"digits, p = {first['p']}, over {first['subsets']} random half subsets that no weight has seen, less its "
        f"small-sample bias, against the number m of other half subsets retrained to weigh the candidates (0: equal "
        f"weights); mean over {first['queries']} queries and {counted(numbers['replicates'], 'networks')} "
        "± s.e. over networks. "
        "Lines: restored influence summed, the twin's linear outputs, the network evaluated at the twin's parameters. "
        "Stacks: both kinds of answers at a third, one and three times the training ridge; with the twins of "
        f"{STARTS} networks trained on all points from other starts; with the twin at the mean parameters of the first "
        f"{AVERAGED} retrained networks. Retraining in another batch order agrees to {again.min():.3f} or better. "
        "Dimensionless."
    )
