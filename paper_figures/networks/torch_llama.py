"""A small Llama on English text, and pretrained SmolLM2 with LoRA: predictions along the run against retraining."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from paper_figures.drawing.style import PAGE, Drawing
from paper_figures.drawing.torch_panels import in_words, legend
from paper_figures.networks.torch_gpt2 import PANELS, RATE, checked, draw_row, sizes
from simulations.engine.reading import NoResultsError
from simulations.engine.store import Store
from simulations.engine.study import find_study

LORA = ("smollm2 full", "smollm2 quick")


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("torch_llama"))
    small = frame[(frame["model"] == "small") & (frame["start"] == "warm")]
    adapted = largest(frame)
    figure = Figure(figsize=(PAGE, 4.6), layout="constrained")
    rows = figure.subplots(2, 3)
    numbers = [
        draw_row(axes, chosen).assign(model=name)
        for axes, chosen, name in zip(rows, (small, adapted), ("small", "SmolLM2"), strict=True)
    ]
    rows[0, 1].set_title("small Llama")
    rows[1, 1].set_title("SmolLM2-135M, LoRA")
    legend(figure, rows[0, 1])
    caption = (
        f"Above: Llama on the English of Python's reference, float64, RMSNorm and softmax in full precision, "
        f"{sizes(small)}; AdamW (betas .9, .95; weight decay .01) after a warm-up on other sequences, moments kept. "
        f"{PANELS} {in_words(small, x='learning_rate')} {checked(small)} Below: {of_lora(adapted)}"
    )
    return Drawing(figure, pd.concat(numbers, ignore_index=True), caption)


def largest(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs of the largest size of SmolLM2 that is stored."""
    stored = [name for name in LORA if (frame["model"] == name).any()]
    if not stored:
        raise NoResultsError("no results of SmolLM2; compute them with: python -m simulations run torch_llama")
    return frame[frame["model"] == stored[0]]


def of_lora(frame: pd.DataFrame) -> str:
    scores = frame[(frame["part"] == "estimator") & (frame["learning_rate"] == RATE)]
    means = scores.groupby("estimator", sort=False)[["spearman", "relative_error"]].mean()
    found = "; ".join(f"{row.Index} {row.spearman:.2f}, {row.relative_error:.2f}" for row in means.itertuples())
    runs = frame[frame["part"] == "run"]
    return (
        "pretrained SmolLM2-135M-Instruct, weights dequantised from 4 bits, LoRA of rank 4 on queries and values, "
        f"instructions with the prompt masked, float32, {sizes(frame)}, {runs['replicate'].nunique()} seed(s). "
        f"Spearman and relative error at {RATE:g}: {found}. Null effect, the run repeated by the code that retrains: "
        f"{runs['null_effect'].max():.1%} of the median effect."
    )
