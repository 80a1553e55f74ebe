"""Multilayer perceptrons that torch trained: predictions along the run and at its end against retraining."""

from __future__ import annotations

from pathlib import Path

from paper_figures.drawing.style import Drawing
from paper_figures.drawing.torch_images import draw_images
from simulations.engine.store import Store
from simulations.engine.study import find_study

RATE, LENGTH = 1e-2, 60


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("torch_mlp"))
    digits = frame[frame["data"] == "digits"]
    run = digits[(digits["side"] == "trajectory") & (digits["length"] == LENGTH)]
    end = digits[digits["side"] == "attribution"]
    first = run.iloc[0]
    mnist = frame[(frame["data"] != "digits") & (frame["side"] == "trajectory") & (frame["part"] == "estimator")]
    best = mnist[mnist["estimator"] == "two-step"]
    scores = best.groupby(["data", "learning_rate"], sort=False)["spearman"].mean().reset_index()
    others = "; ".join(f"{row.data}, {row.learning_rate:g}: {row.spearman:.3f}" for row in scores.itertuples())
    caption = (
        f"Digits, tanh network, recorded from torch.optim.AdamW (betas .9, .95; weight decay .01). Above: p = "
        f"{first['p']:.0f}, n = {first['n']:.0f}, |B| = {first['batch']:.0f}, {LENGTH} steps, retraining without each "
        f"of {first['removed']:.0f} images, denominator kept; query: mean held-out loss. Left: prediction against "
        "retraining in units of the rms effect; bars: calibrated 90 % bound of the two-step push. Middle and right: "
        f"Spearman and relative error, mean ± s.e. over seeds. Two-step push on MNIST, 784-16-16-10, one epoch "
        f"(learning rate: Spearman): {others}."
    )
    return draw_images(run, end, rate=RATE, caption=caption)
