"""Losses, optimisers, schedules and loops."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import lr_scheduler

from support.constructions.layers import body, forward, tokens
from support.constructions.setup import CLASSES, Case, N, Setup, adamw, labels, normal
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


T, S, A, O = torch.optim, lr_scheduler, "losses and loops", "optimisers and schedules"  # noqa: E741
AX, OX = "losses and loops refused", "optimisers refused"
LOOPS = [
    Case(O, "SGD", lambda: optimizer(T.SGD, lr=0.3)),
    Case(O, "SGD with momentum and dampening", lambda: optimizer(T.SGD, lr=0.1, momentum=0.9, dampening=0.3)),
    Case(O, "SGD with Nesterov momentum and weight decay", lambda: optimizer(T.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1)),
    Case(O, "Adam with weight decay", lambda: optimizer(T.Adam, lr=0.01, eps=1e-4, weight_decay=0.1)),
    Case(O, "Adam with decoupled_weight_decay", lambda: optimizer(T.Adam, lr=0.01, eps=1e-4, weight_decay=0.1, decoupled_weight_decay=True)),
    Case(O, "AdamW with betas of one's own", lambda: optimizer(T.AdamW, lr=0.01, eps=1e-4, betas=(0.8, 0.95))),
    Case(O, "AdamW with AMSGrad", lambda: optimizer(T.AdamW, lr=0.01, eps=1e-4, amsgrad=True)),
    Case(O, "AdamW, foreach", lambda: optimizer(T.AdamW, lr=0.01, eps=1e-4, foreach=True)),
    Case(O, "AdamW, fused", lambda: optimizer(T.AdamW, lr=0.01, eps=1e-4, fused=True)),
    Case(O, "AdamW with the learning rate as a tensor", lambda: optimizer(T.AdamW, lr=torch.tensor(0.01, dtype=torch.float64), eps=1e-4)),
    Case(O, "groups with rates and decays of their own", lambda: groups({"lr": 0.03}, {"weight_decay": 0.3, "betas": (0.7, 0.8)})),
    Case(O, "an empty parameter group", lambda: groups({}, {"lr": 0.03}, {"weight_decay": 0.0})),
    Case(O, "warm-up and decay, LambdaLR", lambda: schedule(lambda o: S.LambdaLR(o, lambda t: min(1, (t + 1) / 2) * 0.8**t))),
    Case(O, "cosine", lambda: schedule(lambda o: S.CosineAnnealingLR(o, 4))),
    Case(O, "OneCycleLR, which cycles the betas too", lambda: schedule(lambda o: S.OneCycleLR(o, 0.02, total_steps=5))),
    Case(OX, "RMSprop", lambda: optimizer(T.RMSprop), "RMSprop is not covered; use torch.optim.SGD, Adam or AdamW"),
    Case(OX, "Adagrad", lambda: optimizer(T.Adagrad), "Adagrad is not covered"),
    Case(OX, "NAdam", lambda: optimizer(T.NAdam), "NAdam is not covered"),
    Case(OX, "LBFGS", lambda: optimizer(T.LBFGS), "LBFGS is not covered"),
    Case(OX, "maximize=True", lambda: optimizer(T.AdamW, maximize=True), "option maximize = True is not covered"),
    Case(OX, "step(closure)", lambda: Setup(step=closure), "computes its gradient inside"),
    Case(OX, "an optimiser that lacks a parameter", missing_parameter, "is not in the optimiser; freeze it"),
    Case(A, "binary cross-entropy", lambda: Setup(targets=labels(classes=2), loss=lambda z, y: functional.binary_cross_entropy_with_logits(z[:, 0], y.to(z.dtype), reduction="none"))),
    Case(A, "mse_loss", lambda: regression(functional.mse_loss)),
    Case(A, "huber_loss, smooth_l1_loss", lambda: regression(lambda z, y, reduction: functional.huber_loss(z, y, reduction=reduction) + functional.smooth_l1_loss(z, y, reduction=reduction))),
    Case(A, "label smoothing in both losses", lambda: Setup(loss=lambda z, y: functional.cross_entropy(z, y, reduction="none", label_smoothing=0.1))),
    Case(A, "a mean over the tokens of a batch, masked labels", language, remark="`batch_weights`"),
    Case(A, "class weights: Σ a ℓ/Σ a", class_weights, remark="`batch_weights`"),
    Case(A, "weights of samples: Σ w ℓ/|B|", weighted, remark="in the objective's loss"),
    Case(A, "clipping, told", lambda: Setup(clip_norm=0.3)),
    Case(A, "accumulation over two passes", lambda: Setup(passes=2)),
    Case(A, "accumulation over uneven passes, weighted by size", lambda: Setup(passes=2, split=uneven)),
    Case(A, "a moving average of the weights beside the training", averaged),
    Case(AX, "a loss that is averaged", lambda: Setup(loss=functional.cross_entropy), "reduction='none'"),
    Case(AX, "a loss that is not finite", lambda: Setup(loss=lambda z, y: torch.log(-z.square().sum(1))), "is not finite before the first step"),
    Case(AX, "a sum instead of a mean", lambda: own(lambda losses, k: losses.sum().backward()), "best-fit scale 4: .*sum over the batch"),
    Case(AX, "a sum hidden by clipping", lambda: own(lambda losses, k: losses.sum().backward(), clip_norm=0.01), "best-fit scale 4: .*sum over the batch"),
    Case(AX, "passes that are not divided", lambda: own(lambda losses, k: losses.mean().backward(), passes=2), "best-fit scale 2: .*does not divide each of its 2"),
    Case(AX, "passes divided twice", lambda: own(lambda losses, k: (losses.mean() / k**2).backward(), passes=2), "best-fit scale 0.5: .*twice"),
    Case(AX, "a mean of the means of uneven passes", lambda: own(lambda losses, k: (losses.mean() / k).backward(), passes=2, split=uneven), "2 passes of 3, 1 samples of means over each"),
    Case(AX, "a loss scaled by a gradient scaler", lambda: own(lambda losses, k: (65536 * losses.mean()).backward()), "gradient scaler"),
    Case(AX, "class weights, untold", class_weights_untold, "weighted mean of the samples' gradients, .* batch_weights"),
    Case(AX, "a penalty beside the loss", lambda: own(penalised), "best-fit scale|no weights of the samples"),
    Case(AX, "weight decay written into the gradient", lambda: Setup(before_step=lambda m: [p.grad.add_(p.detach(), alpha=0.1) for p in m.parameters()]), "no weights of the samples"),
    Case(AX, "clipping, untold", lambda: Setup(clip_norm=0.01, told={"clip_norm": None}), "say so: clip_norm=0.01"),
    Case(AX, "clipping told that is not done", lambda: Setup(told={"clip_norm": 0.01}), "does not clip to 0.01; leave clip_norm out"),
    Case(AX, "clipping by value", lambda: Setup(before_step=lambda m: nn.utils.clip_grad_value_(m.parameters(), 0.01)), "scales the gradient from norm"),
    Case(AX, "gradients halved before the step", lambda: Setup(before_step=halved), "scales the gradient from norm"),
    Case(AX, "noise on the gradient", lambda: Setup(before_step=noise), "no weights of the samples|scales the gradient"),
    Case(AX, "other samples than those named", lambda: Setup(used=lambda part: (part + 1) % N), "no weights of the samples"),
    Case(AX, "a sample named that is left out", lambda: Setup(used=lambda part: part[:3], backward=lambda losses, k: losses.mean().backward()), "sample 9 was named and is not in it"),
    Case(AX, "autocast", autocast, "in float32 the gradient is .* away from the one in float64"),
]  # fmt: skip

