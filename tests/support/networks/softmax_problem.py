"""A small softmax classifier in double precision, with training points and queries."""

from __future__ import annotations

import torch
from torch import nn

CLASSES = 4


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, CLASSES)).double()


def points(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(n, 6, generator=draws).double(), torch.randint(CLASSES, (n,), generator=draws)


TRAINING, QUERIES = points(50, 1), points(3, 2)
