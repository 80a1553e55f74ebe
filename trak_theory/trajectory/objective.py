"""Objectives: per-sample losses and their derivatives in a flat θ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy import ndarray as Array

from trak_theory.losses import Loss
from trak_theory.numerics.digests import digest_of_arrays, digest_of_bytes
from trak_theory.numerics.tensor import Tensor


class Objective(Protocol):
    """Per-sample losses ℓ_i(θ), i < n, of a flat θ (p,), and derivatives of Σ_{i∈B} w_i ℓ_i.

    A batch B is an integer index array; weights carry the mean's 1/|B|. Leading axes are models in `loss` and
    `gradient`, directions in `hvp` and `ggn`. `ggn` is the Gauss–Newton product JᵀℓJ″V, without ∇²f.

    An objective may also have `batch_weights` a (n,), with which training minimises Σ_B a_i ℓ_i/Σ_B a_i on a batch (a
    mean over tokens: a_i their number), and `fingerprint()`, digests by name of what training must leave unchanged, and
    `shared_pass(θ, batch, weights)`, see `SharedDerivatives`, and `sample_gradient_parts(θ, batch)`, the same as
    `sample_gradients` in pairs (slice of coordinates, (B, its width)).
    """

    @property
    def n(self) -> int: ...

    @property
    def p(self) -> int: ...

    def loss(self, theta: Tensor, batch: Array) -> Tensor:
        """θ (…, p) ↦ ℓ (…, B)."""
        ...

    def gradient(self, theta: Tensor, batch: Array, weights: Tensor) -> Tensor:
        """θ (…, p), w (…, B) ↦ Σ w_i ∇ℓ_i (…, p)."""
        ...

    def sample_gradients(self, theta: Tensor, batch: Array) -> Tensor:
        """θ (p,) ↦ ∇ℓ_i (B, p)."""
        ...

    def hvp(self, theta: Tensor, batch: Array, weights: Tensor, directions: Tensor) -> Tensor:
        """θ (p,), V (q, p) ↦ Σ w_i ∇²ℓ_i V (q, p)."""
        ...

    def ggn(self, theta: Tensor, batch: Array, weights: Tensor, directions: Tensor) -> Tensor: ...


class SharedDerivatives(Protocol):
    """Derivatives at one θ of one Σ w_i ℓ_i that share a pass through the model."""

    @property
    def gradient(self) -> Tensor:
        """Σ w_i ∇ℓ_i (p,)."""
        ...

    def products(self, directions: Tensor, onto: Tensor | None = None, factor: float = 1.0) -> Tensor:
        """V (q, p) ↦ ⟨∇ℓ_i, V⟩ (q, B); adds c Σ w_i ∇²ℓ_i V to `onto` (q, p), where given."""
        ...


@dataclass(frozen=True, eq=False)
class GLMObjective:
    """ℓ_i(θ) = w_i ℓ(y_i, φ_iᵀθ) without ridge: features Φ (n, p), targets y (n,), sample weights w (n,).

    Complex θ carries a derivative in its imaginary part: functions of the output are continued as
    f(Re z) + i Im z f′(Re z), which is what a complex step needs from any `Loss`.
    """

    features: Array
    targets: Array
    weights: Array
    of_output: Loss

    @property
    def n(self) -> int:
        return self.features.shape[0]

    @property
    def p(self) -> int:
        return self.features.shape[1]

    def fingerprint(self) -> dict[str, str]:
        """Digests of the samples and of the loss."""
        loss = f"{type(self.of_output).__name__} {sorted(vars(self.of_output).items())}"
        return {
            "samples": digest_of_arrays([self.features, self.targets, self.weights]),
            "the loss": digest_of_bytes(loss.encode()),
        }

    def loss(self, theta: Array, batch: Array) -> Array:
        rows, targets, weights = self._rows(theta, batch)
        return weights * _continued(self.of_output.value, self.of_output.residual, targets, theta @ rows.T)

    def gradient(self, theta: Array, batch: Array, weights: Array) -> Array:
        rows, residual = self._residual(theta, batch)
        return (weights * residual) @ rows

    def sample_gradients(self, theta: Array, batch: Array) -> Array:
        rows, residual = self._residual(theta, batch)
        return residual[:, None] * rows

    def hvp(self, theta: Array, batch: Array, weights: Array, directions: Array) -> Array:
        rows, targets, own = self._rows(theta, batch)
        outputs = theta @ rows.T
        curvature = own * _continued(self.of_output.curvature, self.of_output.third, targets, outputs)
        return (weights * curvature * (directions @ rows.T)) @ rows

    def ggn(self, theta: Array, batch: Array, weights: Array, directions: Array) -> Array:
        return self.hvp(theta, batch, weights, directions)  # outputs are linear in θ

    def _rows(self, theta: Array, batch: Array) -> tuple[Array, Array, Array]:
        dtype = theta.real.dtype
        parts = (self.features[batch], self.targets[batch], self.weights[batch])
        rows, targets, weights = (part.astype(dtype, copy=False) for part in parts)
        return rows, targets, weights

    def _residual(self, theta: Array, batch: Array) -> tuple[Array, Array]:
        rows, targets, own = self._rows(theta, batch)
        outputs = theta @ rows.T
        return rows, own * _continued(self.of_output.residual, self.of_output.curvature, targets, outputs)


def _continued(
    function: Callable[[Array, Array], Array],
    slope: Callable[[Array, Array], Array],
    targets: Array,
    outputs: Array,
) -> Array:
    if not np.iscomplexobj(outputs):
        return function(targets, outputs)
    return function(targets, outputs.real) + 1j * outputs.imag * slope(targets, outputs.real)
