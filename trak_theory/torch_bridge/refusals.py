"""What the torch bridge refuses, by name and with the fix."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from trak_theory.errors import UnsupportedError


def check_module(module: nn.Module) -> None:
    """Refuse active dropout, BatchNorm in train mode and fused attention."""
    for name, part in module.named_modules():
        where = f"{type(part).__name__} {name!r}"
        if isinstance(part, _DropoutNd) and part.training and part.p > 0:
            raise UnsupportedError(
                f"{where} drops at random (p = {part.p:g}): a retraining would draw other masks; set p = 0 or use "
                "module.eval()"
            )
        rate = getattr(part, "dropout", 0.0)
        if isinstance(part, (nn.MultiheadAttention, nn.RNNBase)) and part.training and rate > 0:
            raise UnsupportedError(f"{where} drops at random (dropout = {rate:g}); build it with dropout = 0")
        inner = getattr(part, "attention_dropout", 0.0)  # Llama's attention drops without a module of its own
        if isinstance(inner, float) and part.training and inner > 0:
            raise UnsupportedError(
                f"{where} drops attention at random (attention_dropout = {inner:g}); set it to 0 in the configuration"
            )
        if isinstance(part, _BatchNorm) and (part.training or not part.track_running_stats):
            raise UnsupportedError(
                f"{where} takes its mean and variance from the batch, so that samples have no loss of their own; use "
                "GroupNorm or LayerNorm, or put it in eval mode to freeze its statistics"
            )
        if isinstance(part, nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d) and part.track_running_stats:
            raise UnsupportedError(f"{where} tracks running statistics; build it with track_running_stats=False")
    attention = getattr(getattr(module, "config", None), "_attn_implementation", "eager")
    if attention not in (None, "eager"):
        raise UnsupportedError(
            f"the attention implementation is {attention!r}, which has no second derivative; load the model with "
            'attn_implementation="eager"'
        )


def check_autocast() -> None:
    """Refuse mixed precision."""
    for kind in ("cpu", "cuda"):
        if torch.is_autocast_enabled(kind):
            raise UnsupportedError(
                f"autocast is on for {kind}: gradients in mixed precision are not derivatives of the loss at the "
                "recorded parameters; train in float32 or float64 (bf16=False, fp16=False)"
            )
