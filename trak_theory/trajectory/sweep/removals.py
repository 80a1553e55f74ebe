"""The samples of one batch, each removed by itself: what that changes of the states after it, and of what is read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from array_api_compat import array_namespace, device
from numpy import ndarray as Array

from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.convention import Convention
from trak_theory.trajectory.optimizer.kernels import plus
from trak_theory.trajectory.query import as_numpy
from trak_theory.trajectory.run import Run
from trak_theory.trajectory.states.training_step import batch_weights
from trak_theory.trajectory.sweep.adjoint import Adjoint
from trak_theory.trajectory.sweep.push import Estimator, RecordedStep, Workspace, push
from trak_theory.trajectory.sweep.sample_rows import SampleRows


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
        """Of each sample of `of_batch`, one place in the batch."""
        samples, places = np.unique(self.run.batches[self.t], return_index=True)
        return places[np.isin(samples, self.samples)]

    @classmethod
    def of_batch(
        cls,
        run: Run,
        t: int,
        here: RecordedStep,
        convention: Convention,
        at_once: int,
        candidates: Array | None = None,
    ) -> Removals:
        """Of every sample of the batch, or of those that are candidates."""
        batch = run.batches[t]
        samples, where = np.unique(batch, return_inverse=True)
        weights = np.bincount(where, batch_weights(run.objective, batch))
        convention.refuse_empty(t, batch, weights.sum() - weights.max(), f"sample {samples[weights.argmax()]}")
        asked = np.ones(len(samples), bool) if candidates is None else np.isin(samples, candidates)
        return cls(run, t, here, convention, samples[asked], weights[asked], at_once)

    def linear(self, slope: Tensor, inner: Tensor | None = None) -> Array:
        """−⟨ḡ, ξ_i⟩ (b, k) for ḡ (k, p); inner: ⟨ḡ, ∇ℓ_i⟩ (k, B) of the whole batch, where known."""
        if inner is not None:
            return -as_numpy(self.perturbation(slice(None), slope @ self.here.gradient, inner.T[self.places]))
        return _together([self._linear(part, slope) for part in self._parts], len(slope))

    def exact(self, estimator: Estimator, adjoint: Adjoint, rows: slice, frozen: int) -> Array:
        """−⟨x̄_{t+1}, δx_{t+1}⟩ − …, (b, rows), for the adjoint's first `frozen` frozen steps."""
        parts = [self._exact(part, estimator, adjoint, rows, frozen) for part in self._parts]
        return _together(parts, rows.stop - rows.start)

    def perturbation(self, part: slice, gradient: Tensor, samples: Tensor) -> Tensor:
        """ξ_i of a part of the samples, from g and their ∇ℓ_i, or any linear function of both."""
        weights = array_namespace(gradient).asarray(self.weights[part], dtype=gradient.dtype, device=device(gradient))
        return self.convention.gradient_perturbation(gradient, samples, weights, self._total)

    @cached_property
    def share(self) -> float | None:
        """a/A where ξ_i = −a ∇ℓ_i/A with the same a for all samples, else None."""
        same = self.convention.removal == "keep" and len(set(self.weights)) == 1
        return float(self.weights[0]) / self._total if same else None

    @cached_property
    def _total(self) -> float:
        return float(batch_weights(self.run.objective, self.run.batches[self.t]).sum())

    def gradients(self, part: slice) -> SampleRows:
        """∇ℓ_i of a part of the samples."""
        rows = SampleRows.of(self.run.objective, self.here.state[0], self.samples[part])
        return rows if self.here.step.elementwise else rows.joined()

    @cached_property
    def _held(self) -> SampleRows:
        return self.gradients(slice(None))

    @property
    def _parts(self) -> list[slice]:
        return [slice(first, first + self.at_once) for first in range(0, len(self.samples), self.at_once)]

    def _linear(self, part: slice, slope: Tensor) -> Array:
        gradients = self._held if self.at_once >= len(self.samples) else self.gradients(part)
        return -as_numpy(self.perturbation(part, slope @ self.here.gradient, gradients.inner(slope)))

    def _exact(self, part: slice, estimator: Estimator, adjoint: Adjoint, rows: slice, frozen: int) -> Array:
        gradients = self.gradients(part)
        xi, pieces = Perturbed(self, part, gradients), gradients.pieces
        widest = max(block.stop - block.start for block in pieces)
        workspace = Workspace(len(self.here.state), gradients.count, widest, self.here.gradient)
        changes = push(estimator, self.here, adjoint.following[:frozen], xi, pieces, workspace)
        return -as_numpy(sum(adjoint.inner(changed, rows, block) for block, changed in changes))


@dataclass(frozen=True, eq=False)
class Perturbed:
    """ξ of a part of the samples, and g + ξ."""

    removals: Removals
    part: slice
    gradients: SampleRows

    def __call__(self, block: slice) -> Tensor:
        return self.removals.perturbation(self.part, self.removals.here.gradient[block], self.gradients[block])

    def pushed(self, block: slice, into: Tensor = None) -> Tensor:
        gradient, share = self.removals.here.gradient[block], self.removals.share
        return gradient + self(block) if share is None else plus(gradient, self.gradients[block], -share, into)


def _together(parts: list[Array], columns: int) -> Array:
    """Rows one below another; none where no sample is asked for."""
    return np.concatenate([np.zeros((0, columns)), *parts])
