"""The network of the arrays as a torch module, its data as tensors, and its margin."""

from __future__ import annotations

import io
from importlib import import_module
from typing import Any

from numpy import ndarray as Array

torch: Any = import_module("torch")
torch.set_num_threads(1)


def network(arrays: dict[str, Array], dtype: Any = torch.float32) -> Any:
    """The packed `module` if there is one; or W₂ relu(W₁ x + b₁) + b₂, `theta` = (W₁, b₁, W₂, b₂) row by row."""
    if "module" in arrays:
        return torch.load(io.BytesIO(arrays["module"].tobytes()), weights_only=False).to(dtype)
    hidden, inputs = int(arrays["hidden"]), arrays["inputs"].shape[1]
    classes = (arrays["theta"].size - hidden * (inputs + 1)) // (hidden + 1)
    model = torch.nn.Sequential(
        torch.nn.Linear(inputs, hidden, dtype=dtype), torch.nn.ReLU(), torch.nn.Linear(hidden, classes, dtype=dtype)
    )
    torch.nn.utils.vector_to_parameters(torch.from_numpy(arrays["theta"]).to(dtype), model.parameters())
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
