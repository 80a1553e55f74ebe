"""Small torch models as families of training runs: convolutions, a GRU, embeddings and language models.

Every builder maps (n, rng) to a `Setting` of n training samples. Needs the extra `torch`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy import ndarray as Array
from numpy.random import Generator
from torch import Tensor, nn

from simulations.workloads.data import digits
from simulations.workloads.training_runs import HELD_OUT, Setting
from trak_theory.torch_bridge import TorchObjective, cross_entropy
from trak_theory.torch_bridge.objective import SampleLoss
from trak_theory.torch_bridge.settings.language import LanguageSetting, gpt2, llama

USERS, ITEMS, RANK, NOISE = 16, 14, 3, 0.3
TOPICS, WORDS, BAG, WIDTH = 4, 150, 12, 8
Build = Callable[[int, Generator], Setting[TorchObjective]]


class GatedUnits(nn.Module):
    """A GRU over rows of an image, written with elementary operations, and a linear read-out of its last state."""

    def __init__(self, inputs: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.of_input, self.of_state = nn.Linear(inputs, 3 * hidden), nn.Linear(hidden, 3 * hidden)
        self.read_out = nn.Linear(hidden, classes)

    def forward(self, rows: Tensor) -> Tensor:
        state = rows.new_zeros(len(rows), self.hidden)
        for row in rows.unbind(1):
            reset, update, new = self.of_input(row).chunk(3, -1)
            own_reset, own_update, own_new = self.of_state(state).chunk(3, -1)
            keep = torch.sigmoid(update + own_update)
            candidate = torch.tanh(new + torch.sigmoid(reset + own_reset) * own_new)
            state = keep * state + (1 - keep) * candidate
        return self.read_out(state)


class Factors(nn.Module):
    """Ratings as products of a user's and an item's embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(USERS, 4), nn.Embedding(ITEMS, 4)
        for part in (self.users, self.items):
            nn.init.normal_(part.weight, std=0.3)

    def forward(self, pairs: Tensor) -> Tensor:
        return (self.users(pairs[:, 0]) * self.items(pairs[:, 1])).sum(-1)


class Bag(nn.Module):
    """The mean embedding of a bag of words, and a linear read-out."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.read_out = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, TOPICS)

    def forward(self, words: Tensor) -> Tensor:
        return self.read_out(self.words(words).mean(1))


def cnn(activation: Callable[[], nn.Module]) -> Build:
    """Two convolutions of stride 2 on 8 × 8 digits; p = 1 210."""

    def network() -> nn.Module:
        first, second = (nn.Conv2d(inside, out, 3, stride=2, padding=1) for inside, out in ((1, 6), (6, 12)))
        return nn.Sequential(first, activation(), second, activation(), nn.Flatten(), nn.Linear(48, 10))

    return lambda n, rng: _on_digits(network, (1, 8, 8), n, rng)


def conv1d(n: int, rng: Generator) -> Setting[TorchObjective]:
    """Two convolutions along the rows of a digit, its columns as channels, and their mean; p = 938."""

    def network() -> nn.Module:
        first, second = nn.Conv1d(8, 12, 3, padding=1), nn.Conv1d(12, 12, 3, padding=1)
        pool = (nn.AdaptiveAvgPool1d(1), nn.Flatten())
        return nn.Sequential(first, nn.GELU(), second, nn.GELU(), *pool, nn.Linear(12, 10))

    return _on_digits(network, (8, 8), n, rng)


def gru(n: int, rng: Generator) -> Setting[TorchObjective]:
    """A GRU of width 12 that reads a digit row by row; p = 922."""
    return _on_digits(lambda: GatedUnits(8, 12, 10), (8, 8), n, rng)


def factorisation(n: int, rng: Generator) -> Setting[TorchObjective]:
    """Ratings of rank 3 with noise, n of them known; squared loss."""
    pairs = np.stack(np.divmod(rng.permutation(USERS * ITEMS), ITEMS), axis=1)
    users, items = (rng.standard_normal((count, RANK)) for count in (USERS, ITEMS))
    ratings = (users[pairs[:, 0]] * items[pairs[:, 1]]).sum(1) / np.sqrt(RANK)
    ratings += NOISE * rng.standard_normal(len(pairs))
    return _setting(Factors, lambda output, target: (output - target) ** 2 / 2, pairs, ratings, n, rng)


def embedding_bag(n: int, rng: Generator) -> Setting[TorchObjective]:
    """Bags of words of four topics, each with a Zipf law on its own order of the words."""
    law = 1.0 / np.arange(1, WORDS + 1)
    order = np.stack([rng.permutation(WORDS) for _ in range(TOPICS)])
    topics = rng.integers(0, TOPICS, n + HELD_OUT)
    words = order[topics[:, None], rng.choice(WORDS, (len(topics), BAG), p=law / law.sum())]
    return _setting(Bag, cross_entropy, words, topics, n, rng)


def language(
    build: Callable[..., LanguageSetting], *, warm: bool
) -> Build:
    """A small language model from scratch, or after 60 warm-up steps with a new optimiser; n is its own."""

    def setting(n: int, rng: Generator) -> Setting[TorchObjective]:
        problem = build(rng=rng)
        if warm:
            problem.warm(problem.adamw(3e-3))
        return Setting(problem.objective, problem.held_out, problem.objective.theta())

    return setting


def _on_digits(
    network: Callable[[], nn.Module], shape: tuple[int, ...], n: int, rng: Generator
) -> Setting[TorchObjective]:
    features, labels = digits()
    order = rng.permutation(len(labels))[: n + HELD_OUT]
    return _setting(network, cross_entropy, features[order].reshape(-1, *shape), labels[order], n, rng)


def _setting(
    network: Callable[[], nn.Module], loss: SampleLoss, inputs: Array, targets: Array, n: int, rng: Generator
) -> Setting[TorchObjective]:
    """The first n samples are the run's, the others are held out; torch's own initialisation, drawn from rng."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**62)))
        module = network().double()
    rows, values = (torch.from_numpy(np.ascontiguousarray(part)) for part in (inputs, targets))
    inside, outside = (TorchObjective(module, loss, rows[part], values[part]) for part in (slice(n), slice(n, None)))
    return Setting(inside, outside, inside.theta())


TORCH_FAMILIES: dict[str, Build] = {
    "cnn_relu": cnn(nn.ReLU),
    "cnn_leaky_relu": cnn(nn.LeakyReLU),
    "conv1d": conv1d,
    "gru": gru,
    "factorisation": factorisation,
    "embedding_bag": embedding_bag,
    "gpt2": language(gpt2, warm=True),
    "gpt2_scratch": language(gpt2, warm=False),
    "llama": language(llama, warm=True),
}
