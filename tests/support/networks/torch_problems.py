"""Small torch models and loops for the bridge's tests."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from trak_theory.torch_bridge import TorchObjective, TrajectoryRecorder, cross_entropy

N, CLASSES = 24, 3


def images(size, seed=0, *, n=N):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(n, *size, generator=generator, dtype=torch.float64)
    return pixels, torch.randint(CLASSES, (n,), generator=generator)


def seeded(build, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build().double()


def mlp():
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, CLASSES))


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1),
        nn.GroupNorm(2, 4),
        nn.GELU(),
        nn.Conv2d(4, 4, 3, stride=2, padding=1),
        nn.GroupNorm(2, 4),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(16, CLASSES),
    )


def mlp_objective(**settings):
    return TorchObjective(seeded(mlp), cross_entropy, *images((6,)), **settings)


def cnn_objective(**settings):
    return TorchObjective(seeded(cnn), cross_entropy, *images((1, 8, 8)), **settings)


def batches(steps=8, size=6, seed=1, *, n=N):
    rng = np.random.default_rng(seed)
    return [rng.choice(n, size, replace=False) for _ in range(steps)]


def loop(objective, optimizer, batches, *, schedule=None, clip_norm=None, accumulate=1, told=None, **settings):
    """A user's own loop; `told`: what the recorder is told instead of the truth."""
    module, (inputs,) = objective.model.module, objective.rows.args
    with TrajectoryRecorder(objective, optimizer, clip_norm=told or clip_norm, **settings) as recorder:
        for batch in batches:
            for part in np.array_split(batch, accumulate):
                recorder.saw(torch.from_numpy(part))
                loss = objective.of_output(module(inputs[part]), objective.rows.targets[part]).mean()
                (loss / accumulate).backward()
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(module.parameters(), clip_norm)
            optimizer.step()
            if schedule is not None:
                schedule.step()
            optimizer.zero_grad()
    return recorder.run()
