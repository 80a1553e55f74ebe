"""Leave-one-out of two-layer networks in fifty digits: Newton's method on the network's formula as given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulations.workloads.truth_in_60_digits import CONTEXT, exactly

STEP = CONTEXT.mpf(10) ** -35  # of the differences that make the Hessian from gradients
CONVERGED = CONTEXT.mpf(10) ** -25
MAX_STEPS = 12


def _each(function):
    return np.frompyfunc(function, 1, 1)


def _sigmoid(z):
    return 1 / (1 + CONTEXT.exp(-z))


# σ and σ′
ACTIVATIONS = {
    "tanh": (_each(CONTEXT.tanh), _each(lambda z: 1 - CONTEXT.tanh(z) ** 2)),
    "softplus": (_each(lambda z: CONTEXT.log(1 + CONTEXT.exp(z))), _each(_sigmoid)),
    "erf": (_each(CONTEXT.erf), _each(lambda z: 2 / CONTEXT.sqrt(CONTEXT.pi) * CONTEXT.exp(-z * z))),
}
RESIDUALS = {"squared": lambda y, f: f - y, "logistic": lambda y, f: _each(_sigmoid)(f) - y}


class NoTruthError(ArithmeticError):
    """The reference itself was not found: nothing can be said of the radii."""


@dataclass(frozen=True, eq=False)
class ShallowTruth:
    """f = s (A σ(V x̃) + c) with one output and penalty (λ/2)‖θ‖², from the data of a fit."""

    inputs: np.ndarray
    targets: np.ndarray
    width: int
    activation: str
    loss: str
    ridge: float
    scale: float

    def minimum_near(self, start, left_out=None):
        """The stationary point (p,) that Newton's method reaches from `start`, a point next to it."""
        theta = exactly(start.tolist())
        for _ in range(MAX_STEPS):
            step = self._newton_step(theta, left_out)
            theta = theta - step
            if max(abs(step)) <= CONVERGED * max(abs(theta)):
                return theta
        raise NoTruthError("Newton's method in fifty digits did not converge")

    def output(self, theta, points):
        """f (q,) at points (q, d)."""
        hidden, weights, shift = self._split(theta)
        activation, _ = ACTIVATIONS[self.activation]
        return CONTEXT.mpf(self.scale) * (activation(_with_ones(points) @ hidden.T) @ weights + shift)

    def _split(self, theta):
        fan_in = self.inputs.shape[1] + 1
        return theta[: self.width * fan_in].reshape(self.width, fan_in), theta[self.width * fan_in : -1], theta[-1]

    def _gradient(self, theta, left_out):
        hidden, weights, _ = self._split(theta)
        rows, (activation, slope) = _with_ones(self.inputs), ACTIVATIONS[self.activation]
        pre = rows @ hidden.T
        residual = RESIDUALS[self.loss](exactly(self.targets.tolist()), self.output(theta, self.inputs))
        if left_out is not None:
            residual[left_out] = CONTEXT.zero
        residual = residual * CONTEXT.mpf(self.scale)
        inner = (residual[:, None] * weights * slope(pre)).T @ rows
        own = np.concatenate([inner.ravel(), residual @ activation(pre), [residual.sum()]])
        return own + CONTEXT.mpf(self.ridge) * theta

    def _newton_step(self, theta, left_out):
        gradient = self._gradient(theta, left_out)
        columns = []
        for k in range(theta.size):
            moved = theta.copy()
            moved[k] += STEP
            columns.append((self._gradient(moved, left_out) - gradient) / STEP)
        hessian = CONTEXT.matrix([list(column) for column in columns])
        return np.array(list(CONTEXT.lu_solve(hessian, CONTEXT.matrix(list(gradient)))), dtype=object)


def _with_ones(points):
    return exactly(np.column_stack([points, np.ones(len(points))]).tolist())
