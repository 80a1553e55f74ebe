"""One pass through a module that gives the batch gradient, and then its Hessian and sample products."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from trak_theory.torch_bridge.module import FlatModule

Total = Callable[[Tensor, Tensor], Tensor]  # θ (p,), w (B,) ↦ Σ w_i ℓ_i(θ)


class SharedPass:
    """g = ∇Σ w_i ℓ_i (p,) at θ, and for directions V (q, p) both Σ w_i ∇²ℓ_i V (q, p) and ⟨∇ℓ_i, V⟩ (q, B).

    Both are derivatives of the one number ⟨g, v⟩, by θ and by w: no gradient of a single sample is ever formed, and the
    pass forward and back that gave g is not made again. Reverse over reverse, by plain autograd.
    """

    def __init__(
        self, model: FlatModule, total: Total, theta: Tensor, weights: Tensor, at_once: int | None = None
    ) -> None:
        self._model, self._at_once = model, at_once
        self._at = (theta.detach().requires_grad_(), weights.detach().requires_grad_())
        with torch.enable_grad():
            (self._graph,) = torch.autograd.grad(total(*self._at), self._at[:1], create_graph=True)
        self.gradient = self._graph.detach()

    def products(self, directions: Tensor) -> tuple[Tensor, Tensor]:
        """H V (q, p) and the samples' inner products with V, (q, B)."""
        if len(directions) == 1:
            curved, inner = self._pull(directions[0])
            return curved[None], inner[None]
        pulled = self._model.over(lambda v: torch.cat(self._pull(v)), directions, at_once=self._at_once)
        return pulled[:, : directions.shape[1]], pulled[:, directions.shape[1] :]

    def _pull(self, direction: Tensor) -> tuple[Tensor, Tensor]:
        pulled = torch.autograd.grad(self._graph, self._at, direction, retain_graph=True, allow_unused=True)
        curved, inner = (
            torch.zeros_like(at) if part is None else part for part, at in zip(pulled, self._at, strict=True)
        )
        return curved, inner
