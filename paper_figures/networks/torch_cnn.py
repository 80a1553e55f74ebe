"""A convolutional network that torch trained: predictions along the run and at its end against retraining."""

from __future__ import annotations

from pathlib import Path

from paper_figures.drawing.style import Drawing
from paper_figures.drawing.torch_images import draw_images
from simulations.engine.store import Store
from simulations.engine.study import find_study

RATE = 1e-3


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("torch_cnn"))
    run = frame[(frame["side"] == "trajectory") & (frame["size"] == "small")]
    end = frame[frame["side"] == "attribution"]
    end = end[end["images"] == end["images"].min()].assign(recipe="AdamW")
    first = run.iloc[0]
    caption = (
        "MNIST, three convolutions of stride 2 with GroupNorm and GELU, recorded from torch.optim.AdamW (betas .9, "
        f".95; weight decay .01). Above: p = {first['p']:.0f}, n = {first['n']:.0f}, |B| = {first['batch']:.0f}, "
        f"{first['steps']:.0f} steps, retraining without each of {first['removed']:.0f} images, denominator kept; "
        "query: mean held-out loss. Left: prediction against retraining in units of the rms effect; bars: calibrated "
        "90 % bound of the two-step push. Middle and right: Spearman and relative error, mean ± s.e. over seeds."
    )
    return draw_images(run, end, rate=RATE, caption=caption)
