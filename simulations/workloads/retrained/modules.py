"""Torch modules that are trained again and again without some of their samples: AdamW, one start, one batch order."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy import ndarray as Array
from numpy.random import Generator
from torch import Tensor, nn

from trak_theory.torch_bridge import NextTokenLoss, SoftmaxLoss, next_token_loss
from trak_theory.torch_bridge.features import MARGIN, ScalarOutput, margin_of, softmax_margin
from trak_theory.torch_bridge.module import read
from trak_theory.torch_bridge.restoring.output_losses import OutputLoss
from trak_theory.trajectory.batches import shuffled_epochs

DECAY = 0.01
Samples = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Recipe:
    """`steps` batches of `batch` samples in shuffled epochs, AdamW at a constant rate with weight decay .01."""

    batch: int
    steps: int
    rate: float

    def batches(self, n: int, rng: Generator) -> Array:
        return shuffled_epochs(n, size=self.batch, steps=self.steps, rng=rng)

    def optimizer(self, module: nn.Module) -> torch.optim.AdamW:
        return torch.optim.AdamW(module.parameters(), lr=self.rate, weight_decay=DECAY)


@dataclass(frozen=True, eq=False)
class Experiment:
    """A module at its start, its samples and queries, and what is asked of them.

    losses      outputs, targets ↦ (B,), minimised in the mean over a batch
    output      outputs, targets ↦ (B,), read of the queries
    curvature   the loss as `restored` knows it; scalar: the output that TRAK linearises
    """

    start: nn.Module
    training: Samples
    queries: Samples
    recipe: Recipe
    losses: Callable[[Tensor, Tensor], Tensor]
    output: Callable[[Tensor, Tensor], Tensor]
    curvature: OutputLoss
    scalar: ScalarOutput

    @property
    def n(self) -> int:
        return len(self.training[1])

    @property
    def p(self) -> int:
        return sum(value.numel() for value in self.start.parameters())

    def trained(self, batches: Array, kept: Array | None = None) -> tuple[nn.Module, torch.optim.AdamW]:
        """After training on the kept (n,) of every batch."""
        module = copy.deepcopy(self.start)
        optimizer = self.recipe.optimizer(module)
        inputs, targets = self.training
        for batch in batches:
            own = torch.from_numpy(batch if kept is None else batch[kept[batch]])
            optimizer.zero_grad()
            if len(own):
                self.losses(read(module(inputs[own])), targets[own]).mean().backward()
                optimizer.step()
        return module, optimizer

    def outputs(self, batches: Array, kept: Array) -> Array:
        """Outputs of the queries (B, q) after training on each of some sets kept (B, n)."""
        inputs, targets = self.queries
        found = []
        for own in kept:
            module, _ = self.trained(batches, own)
            with torch.no_grad():
                found.append(self.output(read(module(inputs)), targets).double().numpy())
        return np.stack(found)


def cnn(n: int, queries: int, recipe: Recipe, rng: Generator) -> Experiment:
    """Three convolutions of stride 2 with GroupNorm and GELU and two linear layers on MNIST; p = 123 866."""
    from trak_theory.torch_bridge.settings.image import Size, mnist_cnn

    def stage(inside: int, out: int) -> list[nn.Module]:
        return [nn.Conv2d(inside, out, 3, stride=2, padding=1), nn.GroupNorm(4, out), nn.GELU()]

    setting = mnist_cnn(Size(n=n, batch=recipe.batch, steps=1, held_out=queries), rng=rng)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**62)))
        body = [*stage(1, 16), *stage(16, 32), *stage(32, 64), nn.Flatten()]
        module = nn.Sequential(*body, nn.Linear(1024, 96), nn.GELU(), nn.Linear(96, 10))
    training, asked = ((part.rows.args[0].float(), part.rows.targets) for part in (setting.objective, setting.held_out))

    def losses(outputs: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, labels, reduction="none")

    return Experiment(module, training, asked, recipe, losses, softmax_margin, SoftmaxLoss(), MARGIN)


def gpt2(width: int, layers: int, length: int, n: int, queries: int, recipe: Recipe, rng: Generator) -> Experiment:
    """GPT-2 with random weights on English text, vocabulary 256."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from trak_theory.torch_bridge.settings.language import COMMON, SMALL_VOCABULARY
    from trak_theory.torch_bridge.settings.text import text_sequences

    shape: dict[str, Any] = {"n_positions": length, "n_embd": width, "n_layer": layers, "n_head": 4, **SMALL_VOCABULARY}
    silent: dict[str, Any] = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0, **COMMON}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**62)))
        module = GPT2LMHeadModel(GPT2Config(**shape, **silent)).eval()
    sequences = text_sequences(vocabulary=256, length=length, count=n + queries, rng=rng)
    tokens = torch.from_numpy(sequences.tokens)
    training, asked = ((part, part) for part in (tokens[:n], tokens[n:]))

    def likelihood(outputs: Tensor, labels: Tensor) -> Tensor:
        return -next_token_loss(outputs, labels)

    scalar = margin_of(next_token_loss)
    return Experiment(module, training, asked, recipe, next_token_loss, likelihood, NextTokenLoss(), scalar)
