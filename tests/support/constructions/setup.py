"""A construction: model, data, loss, optimiser and loop; and the loop run by torch alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trak_theory.torch_bridge import TorchObjective, TrajectoryRecorder, cross_entropy

N, CLASSES, FEATURES = 12, 3, 4


@dataclass(frozen=True)
class Case:
    """One row of the table. refused: what the error says; None: the numbers are right. remark: what to know."""

    group: str
    name: str
    build: Callable[[], Setup]
    refused: str | None = None
    remark: str = ""


def normal(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(n: int = N, classes: int = CLASSES) -> Tensor:
    return torch.randint(classes, (n,), generator=torch.Generator().manual_seed(1))


def mlp(*between: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """A factory of a network with these layers, each made anew, between two linear ones."""
    layers = between or (nn.Tanh,)
    return lambda: nn.Sequential(nn.Linear(FEATURES, 5), *(layer() for layer in layers), nn.Linear(5, CLASSES))


def adamw(module: nn.Module, **settings: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(module.parameters(), lr=1e-2, eps=1e-4, **settings)


@dataclass
class Setup:
    """The defaults are a tanh network, cross-entropy and AdamW; ε = 1e-4 keeps the derivative smooth."""

    module: Callable[[], nn.Module] = field(default_factory=mlp)
    inputs: Any = field(default_factory=lambda: normal(N, FEATURES))
    targets: Tensor = field(default_factory=labels)
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] = adamw
    schedule: Callable[[torch.optim.Optimizer], Any] | None = None
    batch_weights: Tensor | None = None
    clip_norm: float | None = None
    told: dict[str, Any] = field(default_factory=dict)  # what the recorder is told, where it differs
    passes: int = 1
    split: Callable[[Any, int], list[Any]] = np.array_split
    train: bool = True
    dtype: torch.dtype = torch.float64
    backward: Callable[[Tensor, int], Any] | None = None  # of the loop's own, from the losses and the passes of a step
    before_step: Callable[[nn.Module], Any] = lambda module: None
    step: Callable[[torch.optim.Optimizer], Any] = lambda optimizer: optimizer.step()
    used: Callable[[Any], Any] = lambda part: part  # the samples that the loop computes on, from those it names
    read: Callable[[Any], Tensor] | None = None  # of the loop's own, from the module's output
    length: float = 1e-5  # of the differences that the influence is compared with
    rel: float = 1e-4

    def made(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            return self.module().to(self.dtype).train(self.train)

    def objective(self, module: nn.Module) -> TorchObjective:
        return TorchObjective(module, self.loss, self.inputs, self.targets, batch_weights=self.batch_weights)

    def output(self, module: nn.Module, part: Any) -> Tensor:
        """Of some samples, as a user writes it."""
        if isinstance(self.inputs, dict):
            output = module(**{name: self._rows(rows, part) for name, rows in self.inputs.items()})
        else:
            inputs = self.inputs if isinstance(self.inputs, tuple) else (self.inputs,)
            output = module(*(self._rows(rows, part) for rows in inputs))
        return output if self.read is None else self.read(output)

    def _rows(self, rows: Tensor, part: Any) -> Tensor:
        return rows[part].to(self.dtype) if rows.is_floating_point() else rows[part]


BATCHES = [np.array(batch) for batch in ([0, 3, 6, 9], [1, 4, 7, 10], [0, 2, 5, 11], [3, 8, 4, 1])]


def loop(setup: Setup, module: nn.Module, weights: Tensor, recorder: TrajectoryRecorder | None, optimizer: Any) -> None:
    """Train on BATCHES with a weight for every sample, denominators kept; the recorder only watches."""
    schedule = setup.schedule(optimizer) if setup.schedule else None
    own = torch.ones(N, dtype=weights.dtype) if setup.batch_weights is None else setup.batch_weights.to(weights.dtype)
    for batch in BATCHES:
        for part in setup.split(batch, setup.passes):
            if recorder is not None:
                recorder.saw(part)
            used = setup.used(part)
            losses = weights[used] * own[used] * setup.loss(setup.output(module, used), setup.targets[used])
            if setup.backward is None:
                (losses.sum() / own[batch].sum()).backward()
            else:
                setup.backward(losses, setup.passes)
        if setup.clip_norm is not None:
            nn.utils.clip_grad_norm_(module.parameters(), setup.clip_norm)
        setup.before_step(module)
        setup.step(optimizer)
        if schedule is not None:
            schedule.step()
        optimizer.zero_grad()


def query(setup: Setup, module: nn.Module) -> float:
    """The mean loss of the first three samples."""
    with torch.no_grad():
        return float(setup.loss(setup.output(module, np.arange(3)), setup.targets[:3]).mean())


def reweighted(setup: Setup, sample: int, weight: float) -> float:
    """The query at the end of the loop, by torch alone, with another weight for one sample."""
    module, weights = setup.made(), torch.ones(N, dtype=setup.dtype)
    weights[sample] = weight
    loop(setup, module, weights, None, setup.optimizer(module))
    return query(setup, module)


def derivative(setup: Setup, sample: int) -> float:
    """d query/d weight of one sample at 1, by central differences over the whole training."""
    ends = [reweighted(setup, sample, 1 + sign * setup.length) for sign in (1, -1)]
    return (ends[0] - ends[1]) / (2 * setup.length)
