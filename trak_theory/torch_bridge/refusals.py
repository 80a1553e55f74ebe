"""Refusals of the torch bridge, by name and with the fix."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from trak_theory.errors import UnsupportedError

INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
WRAPPERS = ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel", "OptimizedModule")
ATTENTION = (None, "eager", "sdpa", "eager_full_precision")  # what has a second derivative


def check_module(module: nn.Module, *, curvature: bool = True) -> None:
    """Refuse layers whose samples interact or that draw at random; with `curvature` also those without ∇²ℓ."""
    for name, part in module.named_modules():
        for check in (*CHECKS, _without_curvature) if curvature else CHECKS:
            for reason in check(part):
                raise UnsupportedError(f"{type(part).__name__} {name!r} {reason}")


def check_autocast() -> None:
    """Refuse mixed precision."""
    for kind in ("cpu", "cuda"):
        if torch.is_autocast_enabled(kind):
            raise UnsupportedError(
                f"autocast is on for {kind}: gradients in mixed precision are not derivatives of the loss at the "
                "recorded parameters; train in float32 or float64 (bf16=False, fp16=False)"
            )


def _random(part: nn.Module) -> Iterator[str]:
    if not part.training:
        return
    again = ": a retraining would draw other masks"
    if isinstance(part, _DropoutNd) and part.p > 0:
        yield f"drops at random (p = {part.p:g}){again}; set p = 0 or use module.eval()"
    rate = getattr(part, "dropout", 0.0)
    if isinstance(part, (nn.MultiheadAttention, nn.RNNBase)) and rate > 0:
        yield f"drops at random (dropout = {rate:g}){again}; build it with dropout = 0"
    inner = getattr(part, "attention_dropout", 0.0)  # Llama's attention drops without a module of its own
    if isinstance(inner, float) and inner > 0:
        yield f"drops attention at random (attention_dropout = {inner:g}); set it to 0 in the configuration"
    if isinstance(part, nn.RReLU):
        yield "draws its slopes at random; use LeakyReLU, or module.eval()"


def _batch_statistics(part: nn.Module) -> Iterator[str]:
    if isinstance(part, _BatchNorm) and (part.training or not part.track_running_stats):
        yield (
            "takes its mean and variance from the batch, so that samples have no loss of their own; use GroupNorm or "
            "LayerNorm, or put it in eval mode to freeze its statistics"
        )
    if isinstance(part, INSTANCE_NORMS) and part.track_running_stats:
        yield "tracks running statistics; build it with track_running_stats=False"


def _embeddings(part: nn.Module) -> Iterator[str]:
    if not isinstance(part, nn.Embedding | nn.EmbeddingBag):
        return
    if part.sparse:
        yield "has sparse gradients, which no trajectory holds; build it with sparse=False"
    if part.scale_grad_by_freq:
        yield "scales gradients by counts over the batch, so that samples interact; leave scale_grad_by_freq out"
    if part.max_norm is not None:
        yield "renormalises its weights inside forward, outside the optimiser; leave max_norm out"


def _without_curvature(part: nn.Module) -> Iterator[str]:
    if isinstance(part, nn.EmbeddingBag):
        yield "has no second derivative in torch; use Embedding and sum or average over the bag in forward"
    if _kinds(part) & {"WeightNorm", "_WeightNorm"}:
        yield "normalises a weight by weight_norm, whose second derivative is wrong in torch; remove it"


def _kinds(part: nn.Module) -> set[str]:
    return {type(hook).__name__ for hook in part._forward_pre_hooks.values()} | {type(part).__name__}


def _spectral(part: nn.Module) -> Iterator[str]:
    if _kinds(part) & {"SpectralNorm", "_SpectralNorm"} and part.training:
        yield "is a spectral norm, which changes buffers at every forward pass; remove it, or put it in eval mode"


def _kernels(part: nn.Module) -> Iterator[str]:
    attention = getattr(getattr(part, "config", None), "_attn_implementation", None)
    if attention not in ATTENTION:
        yield (
            f"has the attention implementation {attention!r}, which has no second derivative; load the model with "
            'attn_implementation="eager" or "sdpa"'
        )
    if getattr(part, "gradient_checkpointing", False) is True and part.training:
        yield (
            "has gradient checkpointing on, which has no second derivative; call "
            "model.gradient_checkpointing_disable(): it saves memory and changes no number"
        )
    if type(part).__name__ in WRAPPERS:
        yield "is a wrapper around the model; give objective and optimiser the module inside it (.module, ._orig_mod)"


CHECKS: tuple[Callable[[nn.Module], Iterator[str]], ...] = (
    _random,
    _batch_statistics,
    _embeddings,
    _spectral,
    _kernels,
)
