"""Derivatives of one step's batch loss that a sweep needs: its gradient, then Hessian and sample products."""

from __future__ import annotations

from typing import Protocol

from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.objective import SharedDerivatives
from trak_theory.trajectory.run import Run


class Curvature(Protocol):
    """γ H_t V, as `Settings` give it."""

    @property
    def shares_exact(self) -> bool: ...

    @property
    def damping(self) -> float: ...

    def curvature_product(self, run: Run, t: int, theta: Tensor, directions: Tensor) -> Tensor: ...


class StepDerivatives:
    """g_t (p,) of a run; from one pass through the model where the objective has a `shared_pass`."""

    def __init__(self, run: Run, t: int, settings: Curvature) -> None:
        self._run, self._t, self._settings = run, t, settings
        self._theta = run.state(t)[0]
        self._shared: SharedDerivatives | None = None
        shared_pass = getattr(run.objective, "shared_pass", None)
        if shared_pass is not None and settings.shares_exact:
            self._shared = shared_pass(self._theta, run.batches[t], run.weights(t))
        self.gradient: Tensor = run.gradient(t) if self._shared is None else self._shared.gradient

    def products(self, directions: Tensor, onto: Tensor | None) -> Tensor | None:
        """Adds γ H V to `onto` (q, p), where given; the inner products ⟨∇ℓ_i, V⟩ (q, B), where they come with it."""
        if self._shared is not None:
            return self._shared.products(directions, onto, self._settings.damping)
        if onto is not None:
            onto += self._settings.curvature_product(self._run, self._t, self._theta, directions)
        return None
