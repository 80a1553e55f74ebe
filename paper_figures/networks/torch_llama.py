"""A small Llama on English text, and pretrained SmolLM2 with LoRA: predictions along the run against retraining."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from paper_figures.drawing.style import PAGE, Drawing
from paper_figures.drawing.torch_panels import in_words, legend
from paper_figures.networks.torch_gpt2 import PANELS, RATE, checked, draw_row, sizes
from simulations.engine.store import Store
from simulations.engine.study import find_study


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("torch_llama"))
    small = frame[(frame["model"] == "small") & (frame["start"] == "warm")]
    adapted = frame[frame["model"] == "SmolLM2"]  # of the full size alone
    models = {"small Llama": small, "SmolLM2-135M, LoRA": adapted} if len(adapted) else {"small Llama": small}
    figure = Figure(figsize=(PAGE, 2.3 * len(models)), layout="constrained")
    rows = figure.subplots(len(models), 3, squeeze=False)
    numbers = []
    for axes, (name, chosen) in zip(rows, models.items(), strict=True):
        numbers.append(draw_row(axes, chosen).assign(model=name))
        axes[1].set_title(name)
    legend(figure, rows[0, 1])
    caption = (
        f"Llama on the English of Python's reference, float64, RMSNorm and softmax in full precision, {sizes(small)}; "
        "AdamW (betas .9, .95; weight decay .01) after a warm-up on other sequences, moments kept. "
        f"{PANELS} {in_words(small, x='learning_rate')} {checked(small)}"
    )
    if len(adapted):
        caption += f" Below: {of_lora(adapted)}"
    return Drawing(figure, pd.concat(numbers, ignore_index=True), caption)


def of_lora(frame: pd.DataFrame) -> str:
    scores = frame[(frame["part"] == "estimator") & (frame["learning_rate"] == RATE)]
    means = scores.groupby("estimator", sort=False)[["spearman", "relative_error"]].mean()
    found = "; ".join(f"{row.Index} {row.spearman:.2f}, {row.relative_error:.2f}" for row in means.itertuples())
    runs = frame[frame["part"] == "run"]
    seeds = runs["replicate"].nunique()
    return (
        "pretrained SmolLM2-135M-Instruct, weights dequantised from 4 bits, LoRA of rank 4 on queries and values, "
        f"instructions with the prompt masked, float32, {sizes(frame)}, {seeds} seed{'s' if seeds > 1 else ''}. "
        f"Spearman and relative error at {RATE:g}: {found}. Null effect, the run repeated by the code that retrains: "
        f"{runs['null_effect'].max():.1%} of the median effect."
    )
