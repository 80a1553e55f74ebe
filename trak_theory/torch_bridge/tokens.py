"""Causal language models: losses that are means over the tokens of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional

from trak_theory.torch_bridge.objective import TorchObjective

IGNORED = -100  # the label that takes a token out of the loss


def next_token_loss(logits: Tensor, labels: Tensor, *, first: int = 1) -> Tensor:
    """The mean cross-entropy of a sequence's tokens, each predicted from those before it: (b, L, V), (b, L) ↦ (b,).

    Labels −100 do not count. first: the first position whose label counts in the denominator, see `token_counts`.

    >>> next_token_loss(torch.zeros(1, 3, 4), torch.tensor([[2, -100, 3]]))
    tensor([1.3863])
    """
    losses = functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), labels[:, 1:], ignore_index=IGNORED, reduction="none"
    )
    return losses.sum(-1) / token_counts(labels, first=first).clamp(min=1)


def token_counts(labels: Tensor, *, first: int = 1) -> Tensor:
    """The labels of each sequence that are not −100, from position `first` on: (n, L) ↦ (n,).

    first = 1: the tokens that are predicted. first = 0: all of them, which the Trainer counts where it does not know
    that a model's loss shifts its labels.

    >>> token_counts(torch.tensor([[2, -100, 3], [1, 1, 1]]))
    tensor([1, 2])
    """
    return (labels[:, first:] != IGNORED).sum(-1)


def causal_lm_objective(
    model: nn.Module,
    rows: Mapping[str, ArrayLike | Tensor],
    *,
    parameters: Iterable[str] | None = None,
    chunk: int | None = None,
) -> TorchObjective:
    """The objective that `transformers.Trainer` minimises for a causal language model with its default loss.

    ℓ_i is the mean over the sequence's own tokens and a_i their number, since the Trainer takes the mean over all
    tokens of a batch. For a model without a known `loss_type`, such as GPT-2, it divides by all L labels of a sequence,
    of which L − 1 are predicted, and so does the objective. rows: what the data collator makes of the whole training
    set, `labels` among them: collator(list(data)).
    """
    labels = torch.as_tensor(rows["labels"])
    first = int(_loss_shifts_labels(model))
    inputs = {name: torch.as_tensor(part) for name, part in rows.items() if name != "labels"}
    return TorchObjective(
        model,
        partial(next_token_loss, first=first),
        inputs,
        labels,
        parameters=parameters,
        batch_weights=token_counts(labels, first=first),
        chunk=chunk,
    )


def _loss_shifts_labels(model: nn.Module) -> bool:
    """True if the Trainer counts labels from the second on, as it does for losses that it knows to shift them."""
    from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss

    base: Callable[[], nn.Module] | None = getattr(model, "get_base_model", None)  # of a PEFT model
    kind = getattr(model if base is None else base(), "loss_type", None)
    return isinstance(kind, str) and LOSS_MAPPING.get(kind) is ForCausalLMLoss
