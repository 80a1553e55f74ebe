"""Likely cause of a gradient that is not the mean gradient of the samples that a loop named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy import ndarray as Array
from torch import Tensor

from trak_theory.torch_bridge.objective import TorchObjective
from trak_theory.trajectory.states.training_step import mean_weights

FITTED = 2**28  # numbers in the per-sample gradients that a fit of their weights may hold
CLOSE = 1e-3  # of 1, for a cosine, a scale or a weight


@dataclass(frozen=True)
class Observed:
    """The gradient at one step, as the loop left it to the optimiser.

    gradient (p,); raw_norm, its norm when the last backward pass ended, before the loop could clip it (None: not seen);
    passes, the samples of each backward pass; clip_norm, the norm the loop was said to clip to
    """

    gradient: Tensor
    raw_norm: float | None
    passes: Sequence[Array]
    clip_norm: float | None

    @property
    def batch(self) -> Array:
        return np.concatenate(self.passes)


def explain(objective: TorchObjective, theta: Tensor, seen: Observed, expected: Tensor) -> str:
    """Cosine and best-fit scale of the loop's gradient with the expected one (p,), before clipping, and their cause."""
    own, size = (float(torch.linalg.vector_norm(part, dtype=torch.float64)) for part in (seen.gradient, expected))
    inner = float(seen.gradient.double() @ expected.double())
    cosine = inner / (own * size) if own * size > 0 else 0.0
    raw = own if seen.raw_norm is None else seen.raw_norm
    scale = cosine * raw / size if size > 0 else np.inf
    clipped = _clipping(seen, own, raw)
    facts = f"cosine {cosine:.4f}, best-fit scale {scale:.4g}"
    if cosine > 1 - CLOSE:
        return f"{facts}: {clipped or _scale(objective, seen, scale)}"
    return f"{facts}: {clipped + '; ' if clipped else ''}{_weights(objective, theta, seen)}"


def _clipping(seen: Observed, own: float, raw: float) -> str:
    if abs(own - raw) <= CLOSE * raw:
        beyond = seen.clip_norm is not None and own > seen.clip_norm * (1 + CLOSE)
        return f"the loop does not clip to {seen.clip_norm:g}; leave clip_norm out" if beyond else ""
    if seen.clip_norm is None:
        return (
            f"between backward() and step() the loop scales the gradient from norm {raw:.4g} to {own:.4g}; if it "
            f"clips, say so: clip_norm={own:.4g}"
        )
    if abs(own - min(raw, seen.clip_norm)) > CLOSE * own:
        return f"the loop clips to {own:.4g}, the recorder was told clip_norm={seen.clip_norm:g}"
    return ""


def _scale(objective: TorchObjective, seen: Observed, scale: float) -> str:
    passes, count = len(seen.passes), len(seen.batch)
    causes = [
        (count, "the loop's loss is a sum over the batch; take the mean, or divide by the batch size"),
        (passes, f"the loop does not divide each of its {passes} accumulated passes by {passes}"),
        (1 / passes, f"the loop divides by its {passes} accumulated passes twice"),
        (count / passes, f"each of the {passes} accumulated passes is a sum over its samples; take means"),
    ]
    for value, cause in causes:
        if value != 1 and abs(scale / value - 1) < CLOSE:
            return cause
    if scale >= 128 and np.log2(scale) % 1 < CLOSE:
        return "the loss is scaled by a power of two (a gradient scaler?); train without mixed precision"
    if objective.batch_weights is not None:
        return (
            "are the batch weights the numbers that the loop divides by (labels counted from the first or the second?)"
        )
    return "the loop's loss is divided by something else than the number of samples (tokens? give batch_weights)"


def _weights(objective: TorchObjective, theta: Tensor, seen: Observed) -> str:
    """A reading of the weights c with which the loop's gradient is Σ c_i ∇ℓ_i, where there are any."""
    batch = seen.batch
    if len(batch) * len(theta) > FITTED or len(np.unique(batch)) < len(batch):
        return _unexplained()
    each = objective.sample_gradients(theta, batch).double()
    found = seen.gradient.double()
    fitted = torch.linalg.lstsq(each.T, found[:, None]).solution[:, 0]
    left = float(
        torch.linalg.vector_norm(each.T @ fitted - found) / torch.linalg.vector_norm(found, dtype=torch.float64)
    )
    if not left < 0.01 or len(batch) >= len(theta):
        return _unexplained()
    share = (fitted / fitted.sum()).cpu().numpy() / mean_weights(objective, fitted, batch).cpu().numpy()
    shown = ", ".join(f"{value:.3g}" for value in share[:6])
    absent = batch[np.abs(share) < CLOSE]
    if absent.size:
        return f"sample {absent[0]} was named and is not in it; name the samples that the loss is made of"
    if len({len(part) for part in seen.passes}) > 1:
        return (
            f"it is a mean over {len(seen.passes)} passes of {', '.join(str(len(part)) for part in seen.passes)} "
            "samples of means over each, in which samples weigh differently; weight each pass by its size, or drop the "
            "uneven one"
        )
    return (
        f"it is a weighted mean of the samples' gradients, with weights in the ratio {shown}{' …' * (len(share) > 6)} "
        "to the expected ones; if that is their number of tokens, or of what else the loss averages over, pass it to "
        "the objective as batch_weights; weights of your own loss belong into the objective's loss"
    )


def _unexplained() -> str:
    return (
        "no weights of the samples that were named give it: are those the samples, in the order of the loader? Does "
        "the loop's loss have other terms (a penalty, label smoothing)? Is anything random, or in mixed precision?"
    )
