"""A small GPT-2 on English text after a warm-up: predictions along the run against retraining."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.drawing.style import PAGE, Drawing
from paper_figures.drawing.torch_panels import budget, in_words, legend, ranks, scatter
from simulations.engine.store import Store
from simulations.engine.study import find_study

RATE = 1e-4


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("torch_gpt2"))
    warm = frame[frame["start"] == "warm"]
    figure = Figure(figsize=(PAGE, 2.5), layout="constrained")
    axes = figure.subplots(1, 3)
    numbers = draw_row(axes, warm)
    legend(figure, axes[1])
    caption = (
        f"GPT-2 on the English of Python's reference, float64, {sizes(warm)}; AdamW (betas .9, .95; weight decay .01) "
        f"after a warm-up on other sequences, moments kept. {PANELS} {in_words(warm, x='learning_rate')} "
        f"{checked(warm)}"
    )
    return Drawing(figure, numbers, caption)


PANELS = (
    f"Left: prediction against retraining without a sequence at learning rate {RATE:g}, in units of the rms effect; "
    "bars: calibrated 90 % bound of the two-step push. Middle: Spearman, mean ± s.e. over seeds. Right: relative error "
    f"at {RATE:g}. Query: mean held-out loss; denominator kept."
)


def draw_row(axes: Sequence[Axes], frame: pd.DataFrame) -> pd.DataFrame:
    """Scatter, ranks and error budget of the runs of one model."""
    slow = frame[frame["learning_rate"] == RATE]
    drawn = {"scatter": scatter(axes[0], slow), "ranks": ranks(axes[1], frame, x="learning_rate")}
    axes[1].set(xscale="log", xlabel="learning rate")
    drawn["budget"] = budget(axes[2], slow)
    return pd.concat([numbers.assign(panel=panel) for panel, numbers in drawn.items()], ignore_index=True)


def sizes(frame: pd.DataFrame) -> str:
    first = frame.iloc[0]
    names = {"p": "p", "n": "n", "batch": "|B|", "steps": "steps", "removed": "removed"}
    return ", ".join(f"{name} = {first[column]:.0f}" for column, name in names.items())


def checked(frame: pd.DataFrame) -> str:
    """First order against the finite difference of the run, for a caption."""
    worst = frame.loc[frame["part"] == "run", "derivative_error"].max()
    return f"First order is the derivative of its run: central differences agree to {worst:.0e} or better."
