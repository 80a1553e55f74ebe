"""Leave-one-out influence in sixty digits: Newton's method on the data as given, sharing no code with the library."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import mpmath
import numpy as np

CONTEXT = mpmath.mp.clone()
CONTEXT.dps = 110  # the condition of a Hessian costs up to fifty of them
SINGULAR = CONTEXT.mpf(10) ** -60  # a relative pivot below this is zero
CONVERGED = CONTEXT.mpf(10) ** -35  # a relative step, after which the next would be its square
OVERSHOT = 0.1  # of the slope that a step started with
MAX_STEPS, MAX_HALVINGS = 150, 60

_exp, _sqrt = (np.frompyfunc(function, 1, 1) for function in (CONTEXT.exp, CONTEXT.sqrt))


class NoUniqueMinimiserError(Exception):
    """The objective has no minimiser, or more than one."""


def exactly(array):
    """Floats as multiprecision numbers of the same value, in an object array."""
    return np.frompyfunc(CONTEXT.mpf, 1, 1)(np.asarray(array, dtype=object))


@dataclass(frozen=True, eq=False)
class Truth:
    """min_θ Σ_i w_i ℓ(y_i, o_i + φ_iᵀθ) + ½ Σ_j λ_j θ_j² for the loss called `loss`, δ the width of the pseudo-Huber.

    features (n, p), targets, weights and offset o (n,), ridge (p,) as floats; Newton's method begins at `start` (p,).
    """

    features: np.ndarray
    targets: np.ndarray
    loss: str
    ridge: np.ndarray
    weights: np.ndarray
    offset: np.ndarray
    start: np.ndarray
    delta: float = 1.0

    @cached_property
    def _exact(self):
        arrays = (self.features, self.targets, self.ridge, self.weights, self.offset)
        return tuple(exactly(array.tolist()) for array in arrays)

    @cached_property
    def minimiser(self):
        return self._minimise(np.arange(len(self.targets)), exactly(self.start.tolist()))

    @cached_property
    def _left_out(self):
        return {}  # i → θ̂ − θ̂_{−i}

    def influence(self, i, queries, start):
        """φ*ᵀ(θ̂ − θ̂_{−i}) (q,) as multiprecision numbers; `start` (p,) should be near θ̂_{−i}, if it is finite."""
        if i not in self._left_out:
            begin = exactly(start.tolist()) if np.all(np.isfinite(start)) else self.minimiser
            left = self._minimise(np.delete(np.arange(len(self.targets)), i), begin)
            self._left_out[i] = self.minimiser - left
        return exactly(queries.tolist()) @ self._left_out[i]

    def _minimise(self, kept, theta):
        features, targets, ridge, weights, offset = self._exact
        kept = kept[weights[kept] > 0]
        features, targets, weights, offset = features[kept], targets[kept], weights[kept], offset[kept]

        def gradient(theta):
            residual, curvature = _derivatives(self.loss, targets, offset + features @ theta, self.delta)
            return features.T @ (weights * residual) + ridge * theta, weights * curvature

        slope, curvature = gradient(theta)
        first = abs(theta)  # the minimiser may be zero
        for _ in range(MAX_STEPS):
            hessian = (features.T * curvature) @ features
            hessian[np.diag_indices(len(ridge))] += ridge
            units = _sqrt(np.diag(hessian))
            if not all(units):
                raise NoUniqueMinimiserError("a coefficient is not determined")
            step = -_solve(hessian / np.outer(units, units), slope / units) / units
            if max(abs(step * units)) <= CONVERGED * max(np.maximum(abs(theta), first) * units):
                return theta + step
            theta, slope, curvature = _line_search(gradient, theta, step, slope)
        raise NoUniqueMinimiserError("Newton's method goes on for ever")


def _line_search(gradient, theta, step, slope):
    """The first of 1, ½, ¼, … at which a convex objective does not rise along the step."""
    first = abs(step @ slope)
    for _ in range(MAX_HALVINGS):
        new, curvature = gradient(theta + step)
        if step @ new <= OVERSHOT * first:
            break
        step, first = step / 2, first / 2
    return theta + step, new, curvature


def _solve(matrix, vector):
    """Gaussian elimination of a positive definite matrix with unit diagonal."""
    rows = np.column_stack([matrix, vector])
    for k in range(len(rows)):
        if rows[k, k] <= SINGULAR:
            raise NoUniqueMinimiserError("the Hessian is singular")
        rows[k, k + 1 :] /= rows[k, k]
        rows[k + 1 :, k + 1 :] -= rows[k + 1 :, k : k + 1] * rows[k, k + 1 :]
    solution = rows[:, -1].copy()
    for k in reversed(range(len(rows) - 1)):
        solution[k] -= rows[k, k + 1 : -1] @ solution[k + 1 :]
    return solution


def _derivatives(loss, y, f, delta):
    """ℓ′ and ℓ″."""
    match loss:
        case "squared":
            return f - y, np.full(len(f), CONTEXT.one)
        case "logistic":
            probability = 1 / (1 + _exp(-f))
            return probability - y, probability * (1 - probability)
        case "poisson":
            mean = _exp(f)
            return mean - y, mean
        case "huber":
            stretch = _sqrt(1 + ((f - y) / CONTEXT.mpf(delta)) ** 2)
            return (f - y) / stretch, 1 / stretch**3
    raise ValueError(loss)
