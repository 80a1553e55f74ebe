"""Llama in its own precision: the library's model casts to float32 inside RMSNorm and softmax.

In float64 these casts leave derivatives with errors of about 10⁻⁷, which hide a wrong Hessian-vector product.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaAttention

Model = TypeVar("Model", bound=nn.Module)
ATTENTION = "eager_full_precision"


class RMSNorm(nn.Module):
    """w ⊙ h/√(mean(h²) + ε), in the dtype of h."""

    def __init__(self, weight: nn.Parameter, eps: float) -> None:
        super().__init__()
        self.weight = weight
        self.eps = eps

    def forward(self, hidden: Tensor) -> Tensor:
        return self.weight * hidden * torch.rsqrt((hidden * hidden).mean(-1, keepdim=True) + self.eps)


def attention(
    module: LlamaAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float,
    **_: object,
) -> tuple[Tensor, Tensor]:
    """softmax(QKᵀ·scaling + mask) V in the dtype of Q: (b, heads, L, d) ↦ (b, L, heads, d), and the softmax."""
    key, value = (part.repeat_interleave(module.num_key_value_groups, dim=1) for part in (key, value))
    weights = torch.softmax(query @ key.transpose(-1, -2) * scaling + attention_mask, dim=-1)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def in_full_precision(model: Model) -> Model:
    """A `LlamaForCausalLM` with RMSNorm and softmax in its own dtype; changes it in place, keeps its parameters."""
    from transformers import AttentionInterface
    from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRMSNorm

    AttentionInterface.register(ATTENTION, attention)
    for part in list(model.modules()):
        for name, child in list(part.named_children()):
            if isinstance(child, LlamaRMSNorm):
                setattr(part, name, RMSNorm(child.weight, child.variance_epsilon))
            elif isinstance(child, LlamaAttention):
                child.config = copy.copy(child.config)  # of this layer alone: the masks are made for the model's
                child.config._attn_implementation = ATTENTION
    return model
