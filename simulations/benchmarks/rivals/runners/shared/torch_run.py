"""A training run of the arrays in torch: the starting network, its batches, and the data."""

from __future__ import annotations

from typing import Any

from numpy import ndarray as Array

from simulations.benchmarks.rivals.runners.shared.torch_network import torch


def start(arrays: dict[str, Array]) -> Any:
    """tanh(x W₁ + b₁) W₂ + b₂ at the start of training, single precision, as the rivals document it."""
    first, second = arrays["first"], arrays["second"]
    model = torch.nn.Sequential(torch.nn.Linear(*first.shape), torch.nn.Tanh(), torch.nn.Linear(*second.shape))
    with torch.no_grad():
        for layer, weight, bias in ((model[0], first, "first_bias"), (model[2], second, "second_bias")):
            layer.weight.copy_(torch.from_numpy(weight.T.copy()))
            layer.bias.copy_(torch.from_numpy(arrays[bias]))
    return model


def data(arrays: dict[str, Array], inputs: str, labels: str) -> tuple[Any, Any]:
    return torch.from_numpy(arrays[inputs]).float(), torch.from_numpy(arrays[labels]).long()
