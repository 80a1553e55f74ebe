"""One step of training: the mean gradient of a batch and the state after it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from array_api_compat import array_namespace, device
from numpy import ndarray as Array

from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.objective import Objective
from trak_theory.trajectory.optimizer.recipes import Optimizer
from trak_theory.trajectory.optimizer.steps import State


def advance(objective: Objective, batch: Array, optimizer: Optimizer, t: int, state: State) -> State:
    """One step of training; raises with the step where the loss or its gradient stops being finite."""
    return take_step(objective, batch, optimizer, t, state, mean_gradient(objective, state[0], batch))


def take_step(
    objective: Objective, batch: Array, optimizer: Optimizer, t: int, state: State, gradient: Tensor
) -> State:
    """`advance` with the batch gradient at hand."""
    theta = state[0]
    after = optimizer.at(t, theta)(state, gradient)
    xp = array_namespace(theta)
    if not bool(xp.all(xp.isfinite(after[0]))):
        loss = float(xp.mean(objective.loss(theta, batch).real))
        largest = float(xp.max(xp.abs(gradient)))
        raise FloatingPointError(
            f"step {t}: θ is not finite after the update; the batch loss is {loss:.6g}, the largest |g| {largest:.3g}; "
            "lower the learning rate, clip the gradient or check the data"
        )
    return after


def mean_gradient(objective: Objective, theta: Tensor, batch: Array) -> Tensor:
    """Σ_{i∈B} a_i ∇ℓ_i(θ)/Σ_{i∈B} a_i (p,)."""
    return objective.gradient(theta, batch, mean_weights(objective, theta, batch))


def mean_weights(objective: Objective, theta: Tensor, batch: Array) -> Tensor:
    """a_i/Σ_{j∈B} a_j (B,) in θ's namespace and dtype."""
    weights = batch_weights(objective, batch)
    return array_namespace(theta).asarray(weights / weights.sum(), dtype=theta.real.dtype, device=device(theta))


def batch_weights(objective: Objective, batch: Array) -> Array:
    """a_i (B,) of the batch mean Σ a_i ℓ_i/Σ a_i: the objective's `batch_weights`, or ones."""
    weights = getattr(objective, "batch_weights", None)
    return np.ones(len(batch)) if weights is None else weights[batch]


def fingerprint(objective: Objective) -> Mapping[str, str] | None:
    """Digests of what the objective holds fixed during training, if it tells."""
    taken = getattr(objective, "fingerprint", None)
    return None if taken is None else taken()
