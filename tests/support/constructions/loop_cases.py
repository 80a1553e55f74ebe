"""The table of losses, loops, optimisers and schedules: right, or refused."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torch.optim import lr_scheduler

from support.constructions.loops import (
    autocast,
    averaged,
    class_weights,
    class_weights_untold,
    closure,
    groups,
    halved,
    language,
    missing_parameter,
    noise,
    optimizer,
    own,
    penalised,
    regression,
    schedule,
    uneven,
    weighted,
)
from support.constructions.setup import Case, N, Setup, labels

T, S = torch.optim, lr_scheduler
LOSSES, OPTIMISERS = "losses and loops", "optimisers and schedules"
LOOPS = [
    Case(OPTIMISERS, "SGD", lambda: optimizer(T.SGD, lr=0.3)),
    Case(OPTIMISERS, "SGD with momentum and dampening", lambda: optimizer(T.SGD, lr=0.1, momentum=0.9, dampening=0.3)),
    Case(
        OPTIMISERS,
        "SGD with Nesterov momentum and weight decay",
        lambda: optimizer(T.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    ),
    Case(OPTIMISERS, "Adam with weight decay", lambda: optimizer(T.Adam, lr=0.01, eps=1e-4, weight_decay=0.1)),
    Case(
        OPTIMISERS,
        "Adam with decoupled_weight_decay",
        lambda: optimizer(T.Adam, lr=0.01, eps=1e-4, weight_decay=0.1, decoupled_weight_decay=True),
    ),
    Case(OPTIMISERS, "AdamW with betas of one's own", lambda: optimizer(T.AdamW, lr=0.01, eps=1e-4, betas=(0.8, 0.95))),
    Case(OPTIMISERS, "AdamW with AMSGrad", lambda: optimizer(T.AdamW, lr=0.01, eps=1e-4, amsgrad=True)),
    Case(OPTIMISERS, "AdamW, foreach", lambda: optimizer(T.AdamW, lr=0.01, eps=1e-4, foreach=True)),
    Case(OPTIMISERS, "AdamW, fused", lambda: optimizer(T.AdamW, lr=0.01, eps=1e-4, fused=True)),
    Case(
        OPTIMISERS,
        "AdamW with the learning rate as a tensor",
        lambda: optimizer(T.AdamW, lr=torch.tensor(0.01, dtype=torch.float64), eps=1e-4),
    ),
    Case(
        OPTIMISERS,
        "groups with rates and decays of their own",
        lambda: groups({"lr": 0.03}, {"weight_decay": 0.3, "betas": (0.7, 0.8)}),
    ),
    Case(OPTIMISERS, "an empty parameter group", lambda: groups({}, {"lr": 0.03}, {"weight_decay": 0.0})),
    Case(
        OPTIMISERS,
        "warm-up and decay, LambdaLR",
        lambda: schedule(lambda o: S.LambdaLR(o, lambda t: min(1, (t + 1) / 2) * 0.8**t)),
    ),
    Case(OPTIMISERS, "cosine", lambda: schedule(lambda o: S.CosineAnnealingLR(o, 4))),
    Case(
        OPTIMISERS,
        "OneCycleLR, which cycles the betas too",
        lambda: schedule(lambda o: S.OneCycleLR(o, 0.02, total_steps=5)),
    ),
    Case(
        OPTIMISERS,
        "RMSprop",
        lambda: optimizer(T.RMSprop),
        "torch.optim.RMSprop is not covered; Adam",
    ),
    Case(OPTIMISERS, "Adagrad", lambda: optimizer(T.Adagrad), "Adagrad is not covered"),
    Case(OPTIMISERS, "NAdam", lambda: optimizer(T.NAdam), "NAdam is not covered"),
    Case(OPTIMISERS, "LBFGS", lambda: optimizer(T.LBFGS), "LBFGS is not covered"),
    Case(
        OPTIMISERS, "maximize=True", lambda: optimizer(T.AdamW, maximize=True), "option maximize = True is not covered"
    ),
    Case(OPTIMISERS, "step(closure)", lambda: Setup(step=closure), "computes its gradient inside"),
    Case(OPTIMISERS, "an optimiser that lacks a parameter", missing_parameter, "is not in the optimiser; freeze it"),
    Case(
        LOSSES,
        "binary cross-entropy",
        lambda: Setup(
            targets=labels(classes=2),
            loss=lambda z, y: functional.binary_cross_entropy_with_logits(z[:, 0], y.to(z.dtype), reduction="none"),
        ),
    ),
    Case(LOSSES, "mse_loss", lambda: regression(functional.mse_loss)),
    Case(
        LOSSES,
        "huber_loss, smooth_l1_loss",
        lambda: regression(
            lambda z, y, reduction: (
                functional.huber_loss(z, y, reduction=reduction) + functional.smooth_l1_loss(z, y, reduction=reduction)
            )
        ),
    ),
    Case(
        LOSSES,
        "label smoothing in both losses",
        lambda: Setup(loss=lambda z, y: functional.cross_entropy(z, y, reduction="none", label_smoothing=0.1)),
    ),
    Case(LOSSES, "a mean over the tokens of a batch, masked labels", language, remark="`batch_weights`"),
    Case(LOSSES, "class weights: Σ a ℓ/Σ a", class_weights, remark="`batch_weights`"),
    Case(LOSSES, "weights of samples: Σ w ℓ/|B|", weighted, remark="in the objective's loss"),
    Case(LOSSES, "clipping, told", lambda: Setup(clip_norm=0.3)),
    Case(LOSSES, "accumulation over two passes", lambda: Setup(passes=2)),
    Case(LOSSES, "accumulation over uneven passes, weighted by size", lambda: Setup(passes=2, split=uneven)),
    Case(LOSSES, "a moving average of the weights beside the training", averaged),
    Case(LOSSES, "a loss that is averaged", lambda: Setup(loss=functional.cross_entropy), "reduction='none'"),
    Case(
        LOSSES,
        "a loss that is not finite",
        lambda: Setup(loss=lambda z, y: torch.log(-z.square().sum(1))),
        "is not finite before the first step",
    ),
    Case(
        LOSSES,
        "a sum instead of a mean",
        lambda: own(lambda losses, k: losses.sum().backward()),
        "best-fit scale 4: .*sum over the batch",
    ),
    Case(
        LOSSES,
        "a sum hidden by clipping",
        lambda: own(lambda losses, k: losses.sum().backward(), clip_norm=0.01),
        "best-fit scale 4: .*sum over the batch",
    ),
    Case(
        LOSSES,
        "passes that are not divided",
        lambda: own(lambda losses, k: losses.mean().backward(), passes=2),
        "best-fit scale 2: .*does not divide each of its 2",
    ),
    Case(
        LOSSES,
        "passes divided twice",
        lambda: own(lambda losses, k: (losses.mean() / k**2).backward(), passes=2),
        "best-fit scale 0.5: .*twice",
    ),
    Case(
        LOSSES,
        "a mean of the means of uneven passes",
        lambda: own(lambda losses, k: (losses.mean() / k).backward(), passes=2, split=uneven),
        "2 passes of 3, 1 samples of means over each",
    ),
    Case(
        LOSSES,
        "a loss scaled by a gradient scaler",
        lambda: own(lambda losses, k: (65536 * losses.mean()).backward()),
        "gradient scaler",
    ),
    Case(
        LOSSES,
        "class weights, untold",
        class_weights_untold,
        "weighted mean of the samples' gradients, .* batch_weights",
    ),
    Case(LOSSES, "a penalty beside the loss", lambda: own(penalised), "best-fit scale|no weights of the samples"),
    Case(
        LOSSES,
        "weight decay written into the gradient",
        lambda: Setup(before_step=lambda m: [p.grad.add_(p.detach(), alpha=0.1) for p in m.parameters()]),
        "no weights of the samples",
    ),
    Case(LOSSES, "clipping, untold", lambda: Setup(clip_norm=0.01, told={"clip_norm": None}), "say so: clip_norm=0.01"),
    Case(
        LOSSES,
        "clipping told that is not done",
        lambda: Setup(told={"clip_norm": 0.01}),
        "does not clip to 0.01; leave clip_norm out",
    ),
    Case(
        LOSSES,
        "clipping by value",
        lambda: Setup(before_step=lambda m: nn.utils.clip_grad_value_(m.parameters(), 0.01)),
        "scales the gradient from norm",
    ),
    Case(
        LOSSES, "gradients halved before the step", lambda: Setup(before_step=halved), "scales the gradient from norm"
    ),
    Case(
        LOSSES,
        "noise on the gradient",
        lambda: Setup(before_step=noise),
        "no weights of the samples|scales the gradient",
    ),
    Case(
        LOSSES,
        "other samples than those named",
        lambda: Setup(used=lambda part: (part + 1) % N),
        "no weights of the samples",
    ),
    Case(
        LOSSES,
        "a sample named that is left out",
        lambda: Setup(used=lambda part: part[:3], backward=lambda losses, k: losses.mean().backward()),
        "sample 9 was named and is not in it",
    ),
    Case(LOSSES, "autocast", autocast, "in float32 the gradient is .* away from the one in float64"),
]
