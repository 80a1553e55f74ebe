"""One pass through a module that gives the batch gradient, and then its Hessian and sample products."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trak_theory.torch_bridge.module import FlatModule

SINGLE = 2**15  # parameters from which on a processor takes directions one by one faster than by vmap

Total = Callable[[Sequence[Tensor], Tensor], Tensor]  # the parts of θ (p,), w (B,) ↦ Σ w_i ℓ_i(θ)


class SharedPass:
    """g = ∇Σ w_i ℓ_i (p,) at θ, and for directions V (q, p) both Σ w_i ∇²ℓ_i V and ⟨∇ℓ_i, V⟩ (q, B).

    Both are derivatives of the one number ⟨g, v⟩, by θ and by w: no gradient of a single sample is ever formed, and the
    pass forward and back that gave g is not made again. Reverse over reverse by plain autograd, a part a parameter.
    """

    def __init__(
        self, model: FlatModule, total: Total, theta: Tensor, weights: Tensor, at_once: int | None = None
    ) -> None:
        self._model, self._at_once = model, at_once
        parts = [part.detach().requires_grad_() for part in model.parts(theta)]
        self._at = (*parts, weights.detach().requires_grad_())
        with torch.enable_grad():
            slopes = torch.autograd.grad(total(parts, self._at[-1]), parts, create_graph=True, materialize_grads=True)
        self.gradient = torch.cat([slope.detach() for slope in slopes])
        self._graph = [pair for pair in zip(model.places.values(), slopes, strict=True) if pair[1].requires_grad]

    def products(self, directions: Tensor, onto: Tensor | None = None, factor: float = 1.0) -> Tensor:
        """⟨∇ℓ_i, V⟩ (q, B); adds c H V to `onto` (q, p), where given."""
        alone = self._model.p >= SINGLE and directions.device.type == "cpu"
        if not alone and len(directions) > 1:
            *curved, inner = self._model.over(self._pull, directions, at_once=self._at_once)
            self._add(curved, onto, factor)
            return inner
        rows = []
        for k, direction in enumerate(directions):
            *curved, inner = self._pull(direction)
            self._add(curved, None if onto is None else onto[k], factor)
            rows.append(inner)
        return torch.stack(rows)

    def _add(self, curved: Sequence[Tensor], onto: Tensor | None, factor: float) -> None:
        if onto is not None:
            for place, part in zip(self._model.places.values(), curved, strict=True):
                onto[..., place].add_(part, alpha=factor)

    def _pull(self, direction: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(
            [slope for _, slope in self._graph],
            self._at,
            [direction[place] for place, _ in self._graph],
            retain_graph=True,
            materialize_grads=True,
        )
