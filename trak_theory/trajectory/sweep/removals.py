"""The samples of one batch, each removed by itself: what that changes of the states after it, and of what is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from array_api_compat import array_namespace, device
from numpy import ndarray as Array

from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.convention import Convention
from trak_theory.trajectory.query import as_numpy
from trak_theory.trajectory.run import Run, batch_weights
from trak_theory.trajectory.sweep.adjoint import Adjoint
from trak_theory.trajectory.sweep.blocks import blocks
from trak_theory.trajectory.sweep.push import Estimator, RecordedStep, push


@dataclass(frozen=True, eq=False)
class Removals:
    """samples (b,), which weigh `weights` (b,) in step t's batch; at most `at_once` per-sample gradients are held."""

    run: Run
    t: int
    here: RecordedStep
    convention: Convention
    samples: Array
    weights: Array
    at_once: int

    @property
    def places(self) -> Array:
        """Of each sample, one place in the batch."""
        return np.unique(self.run.batches[self.t], return_index=True)[1]

    @classmethod
    def of_batch(cls, run: Run, t: int, here: RecordedStep, convention: Convention, at_once: int) -> Removals:
        batch = run.batches[t]
        samples, where = np.unique(batch, return_inverse=True)
        weights = np.bincount(where, batch_weights(run.objective, batch))
        convention.refuse_empty(t, batch, weights.sum() - weights.max(), f"sample {samples[weights.argmax()]}")
        return cls(run, t, here, convention, samples, weights, at_once)

    def linear(self, slope: Tensor, inner: Tensor | None = None) -> Array:
        """−⟨ḡ, ξ_i⟩ (b, k) for ḡ (k, p); inner: ⟨ḡ, ∇ℓ_i⟩ (k, B) of the whole batch, where known."""
        if inner is not None:
            return -as_numpy(self.perturbation(slice(None), slope @ self.here.gradient, inner.T[self.places]))
        return np.concatenate([self._linear(part, slope) for part in self._parts])

    def exact(self, estimator: Estimator, adjoint: Adjoint, rows: slice, frozen: int) -> Array:
        """−⟨x̄_{t+1}, δx_{t+1}⟩ − …, (b, rows), for the adjoint's first `frozen` frozen steps."""
        return np.concatenate([self._exact(part, estimator, adjoint, rows, frozen) for part in self._parts])

    def perturbation(self, part: slice, gradient: Tensor, samples: Tensor) -> Tensor:
        """ξ_i of a part of the samples, from g and their ∇ℓ_i, or any linear function of both."""
        weights = array_namespace(gradient).asarray(self.weights[part], dtype=gradient.dtype, device=device(gradient))
        return self.convention.gradient_perturbation(gradient, samples, weights, self._total)

    @cached_property
    def _total(self) -> float:
        return float(batch_weights(self.run.objective, self.run.batches[self.t]).sum())

    def xi(self, part: slice, gradients: Tensor) -> Callable[[slice], Tensor]:
        """Block of coordinates ↦ ξ (b, block), from ∇ℓ_i (b, p)."""
        return lambda block: self.perturbation(part, self.here.gradient[block], gradients[:, block])

    def gradients(self, part: slice) -> Tensor:
        """∇ℓ_i (b, p) of a part of the samples."""
        return self.run.objective.sample_gradients(self.here.state[0], self.samples[part])

    @cached_property
    def _held(self) -> Tensor:
        return self.gradients(slice(None))

    @property
    def _parts(self) -> list[slice]:
        return [slice(first, first + self.at_once) for first in range(0, len(self.samples), self.at_once)]

    def _linear(self, part: slice, slope: Tensor) -> Array:
        gradients = self._held if self.at_once >= len(self.samples) else self.gradients(part)
        return -as_numpy(self.perturbation(part, slope @ self.here.gradient, gradients @ slope.T))

    def _exact(self, part: slice, estimator: Estimator, adjoint: Adjoint, rows: slice, frozen: int) -> Array:
        gradients = self.gradients(part)
        xi, pieces = self.xi(part, gradients), blocks(*gradients.shape)
        changes = push(estimator, self.here, adjoint.following[:frozen], xi, pieces)
        return -as_numpy(sum(adjoint.inner(changed, rows, block) for block, changed in changes))
