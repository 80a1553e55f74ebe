"""Losses, optimisers, schedules and loops."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from support.constructions.layers import body, forward, tokens
from support.constructions.setup import CLASSES, N, Setup, adamw, labels, normal
from trak_theory.torch_bridge import next_token_loss, token_counts


def optimizer(kind: Any, **settings: Any) -> Setup:
    return Setup(optimizer=lambda module: kind(module.parameters(), **settings))


def groups(*settings: dict[str, Any]) -> Setup:
    """One group of settings for the first layer, the next for the last, further ones for nothing."""

    def build(module: Any) -> torch.optim.Optimizer:
        parts = [list(module[0].parameters()), list(module[2].parameters()), *([] for _ in settings[2:])]
        return torch.optim.AdamW(
            [{"params": part, **own} for part, own in zip(parts, settings, strict=True)], lr=1e-2, eps=1e-4
        )

    return Setup(optimizer=build)


def schedule(build: Any) -> Setup:
    return Setup(schedule=build)


def regression(loss: Any) -> Setup:
    targets = normal(N, CLASSES, seed=7)
    return Setup(targets=targets, loss=lambda z, y: loss(z, y, reduction="none").mean(1))


def language() -> Setup:
    """Sequences whose first labels are masked, each at another length; the mean is over the tokens of a batch."""
    known = tokens(6)
    masked = torch.arange(6)[None] < torch.arange(N)[:, None] % 4
    marks = known.masked_fill(masked, -100)

    def build() -> nn.Module:
        return nn.Sequential(nn.Embedding(7, 4), nn.Tanh(), nn.Linear(4, 7))

    return Setup(build, known, marks, next_token_loss, batch_weights=token_counts(marks))


def weighted_targets(z: Tensor, y: Tensor) -> Tensor:
    return y[:, 1].to(z.dtype) * functional.cross_entropy(z, y[:, 0].long(), reduction="none")


def weighted() -> Setup:
    return Setup(targets=torch.stack([labels().double(), 0.5 + torch.arange(N) % 3], 1), loss=weighted_targets)


def class_weights() -> Setup:
    weight = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    return Setup(batch_weights=weight[labels()])


def class_weights_untold() -> Setup:
    weight = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    per_class = weight[labels()]

    def backward(losses: Tensor, passes: int) -> None:
        own = per_class[: len(losses)]
        ((own * losses).sum() / own.sum()).backward()

    return Setup(backward=backward)


def own(backward: Any, **settings: Any) -> Setup:
    return Setup(backward=backward, **settings)


def penalised(losses: Tensor, passes: int) -> None:
    (losses.mean() + 0.1 * losses.mean() ** 2).backward()


def uneven(batch: Any, passes: int) -> list[Any]:
    return [batch[:3], batch[3:]]


def averaged() -> Setup:
    """An exponential moving average beside the training."""

    def build(module: nn.Module) -> torch.optim.Optimizer:
        average = torch.optim.swa_utils.AveragedModel(module)
        made = adamw(module)
        made.register_step_post_hook(lambda *_: average.update_parameters(module))
        return made

    return Setup(optimizer=build)


def closure(made: torch.optim.Optimizer) -> None:
    made.step(lambda: 0.0)  # type: ignore[arg-type]


def autocast() -> Setup:
    def run(m: Any, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return m.head(torch.tanh(m.body(x)))

    return Setup(forward(run, body=body), dtype=torch.float32)


def halved(module: nn.Module) -> None:
    for value in module.parameters():
        assert value.grad is not None
        value.grad *= 0.5


def noise(module: nn.Module) -> None:
    for value in module.parameters():
        assert value.grad is not None
        value.grad += 0.1 * torch.randn_like(value)


def missing_parameter() -> Setup:
    return Setup(optimizer=lambda module: torch.optim.AdamW(module[0].parameters()))  # type: ignore[index]
