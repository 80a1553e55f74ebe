"""The network of the arrays as a torch module, its data as tensors, and its margin."""

from __future__ import annotations

import io
from importlib import import_module
from typing import Any

from numpy import ndarray as Array

torch: Any = import_module("torch")
torch.set_num_threads(1)


def network(arrays: dict[str, Array], dtype: Any = torch.float32) -> Any:
    """The packed `module` where there is one; or relu(x W₁ + b₁) W₂ + b₂ with the weights `first` (inputs, hidden),
    `first_bias`, `second`, `second_bias`.
    """
    if "module" in arrays:
        return torch.load(io.BytesIO(arrays["module"].tobytes()), weights_only=False).to(dtype)
    first, second = arrays["first"], arrays["second"]
    model = torch.nn.Sequential(
        torch.nn.Linear(*first.shape, dtype=dtype), torch.nn.ReLU(), torch.nn.Linear(*second.shape, dtype=dtype)
    )
    with torch.no_grad():
        for layer, weight, bias in ((model[0], first, "first_bias"), (model[2], second, "second_bias")):
            layer.weight.copy_(torch.from_numpy(weight.T.copy()))
            layer.bias.copy_(torch.from_numpy(arrays[bias].ravel()))
    return model


def loaders(arrays: dict[str, Array], batch: int, dtype: Any = torch.float32) -> tuple[Any, Any]:
    """Training points and queries in their order, in batches."""

    def loader(inputs: str, labels: str) -> Any:
        x, y = torch.from_numpy(arrays[inputs]).to(dtype), torch.from_numpy(arrays[labels]).long()
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=batch, shuffle=False)

    return loader("inputs", "labels"), loader("query_inputs", "query_labels")


def margins(logits: Any, labels: Any) -> Any:
    """Logit of the label minus the log-sum-exp of the others, (N,) from (N, C)."""
    own = logits.gather(1, labels[:, None])[:, 0]
    mask = torch.arange(logits.shape[1]) == labels[:, None]
    return own - logits.masked_fill(mask, -torch.inf).logsumexp(1)
