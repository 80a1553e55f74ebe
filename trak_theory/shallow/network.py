"""Two-layer networks f(x) = s (A σ(W x + b) + c), with every derivative that leave-one-out needs, for many θ at once.

Parameters θ = (V, A, c) flattened in this order: V = [W b] (m, d+1), A (C, m), c (C). The bias is a column of V, so
the inputs carry a last column of ones. A batch of parameters is an array (B, p); outputs are (B, n, C).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from trak_theory.numerics.whitening import EPS
from trak_theory.shallow.activations import Activation
from trak_theory.shallow.outputs import Expansion, OutputMap, Pull


@dataclass(frozen=True)
class Network:
    """Sizes d (`inputs`), m (`width`), C (`classes`), the activation σ and the output `scale` s."""

    inputs: int
    width: int
    classes: int
    activation: Activation
    scale: float = 1.0

    @property
    def parameters(self) -> int:
        return self.width * (self.inputs + 1) + self.classes * (self.width + 1)

    def split(self, theta: Array) -> tuple[Array, Array, Array]:
        """V (…, m, d+1), A (…, C, m), c (…, C) as views of θ (…, p)."""
        hidden = self.width * (self.inputs + 1)
        shape = theta.shape[:-1]
        return (
            theta[..., :hidden].reshape(*shape, self.width, self.inputs + 1),
            theta[..., hidden : -self.classes].reshape(*shape, self.classes, self.width),
            theta[..., -self.classes :],
        )

    def join(self, hidden: Array, output: Array, shift: Array) -> Array:
        shape = shift.shape[:-1]
        return np.concatenate([hidden.reshape(*shape, -1), output.reshape(*shape, -1), shift], axis=-1)

    def initial(self, rng: Generator, *, hidden: float = 1.0, output: float = 1.0) -> Array:
        """A random θ₀ (p,): V ~ N(0, hidden²/(d+1)), A ~ N(0, output²/m), c = 0."""
        first = rng.standard_normal((self.width, self.inputs + 1)) * hidden / np.sqrt(self.inputs + 1)
        second = rng.standard_normal((self.classes, self.width)) * output / np.sqrt(self.width)
        return self.join(first, second, np.zeros(self.classes))

    def on(self, points: Array, *, reference: Array | None = None) -> NetworkOutputs:
        """The network on inputs (n, d); with a `reference` θ₀ the outputs are f(θ) − f(θ₀)."""
        rows = np.column_stack([points, np.ones(len(points))])
        outputs = NetworkOutputs(self, rows, 0.0)
        if reference is None:
            return outputs
        return NetworkOutputs(self, rows, outputs.at(reference[None]).value[0])


@dataclass(frozen=True, eq=False)
class NetworkOutputs(OutputMap):
    """A network bound to input rows (n, d+1); `baseline` (n, C) is subtracted from its outputs."""

    network: Network
    rows: Array
    baseline: Array | float

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.rows), self.network.classes, self.network.parameters

    @property
    def work(self) -> int:
        return len(self.rows) * self.network.width

    def at(self, theta: Array) -> NetworkExpansion:
        return NetworkExpansion(self, *self.network.split(theta))

    def jacobian(self, theta: Array) -> Array:
        net, (_, weights, _) = self.network, self.network.split(theta)
        n, classes, _ = self.shape
        value, slope, *_ = self._derivatives(theta)
        out = np.zeros(self.shape, theta.dtype)
        pulled = net.scale * slope[:, None, :] * weights[None]  # ∂f_c/∂z_j, (n, C, m)
        hidden = net.width * (net.inputs + 1)
        out[:, :, :hidden] = (pulled[..., None] * self.rows[:, None, None, :]).reshape(n, classes, -1)
        for c in range(classes):
            out[:, c, hidden + c * net.width : hidden + (c + 1) * net.width] = net.scale * value
            out[:, c, -classes + c] = net.scale
        return out

    def weighted_hessian(self, theta: Array, cotangent: Array) -> Array:
        net, (_, weights, _) = self.network, self.network.split(theta)
        (n, _, p), width, fan_in = self.shape, net.width, net.inputs + 1
        _, slope, curvature, _ = self._derivatives(theta)
        out = np.zeros((p, p), theta.dtype)
        within = net.scale * curvature * (cotangent @ weights)  # (n, m)
        across = net.scale * cotangent.T @ (slope[:, :, None] * self.rows[:, None, :]).reshape(n, -1)
        across = across.reshape(-1, width, fan_in)  # (C, m, d+1)
        for j in range(width):
            block = slice(j * fan_in, (j + 1) * fan_in)
            out[block, block] = (self.rows * within[:, j, None]).T @ self.rows
            for c in range(net.classes):
                column = width * fan_in + c * width + j
                out[block, column] = out[column, block] = across[c, j]
        return out

    def rounding(self, theta: Array) -> tuple[Array, Array]:
        """From z = Vx̃ through σ and A; σ to four units in the last place, σ′ to four of its supremum."""
        net, (hidden, weights, shift) = self.network, map(np.abs, self.network.split(theta))
        first, second, _ = net.activation.suprema if net.activation.smooth else (1.0, 0.0, 0.0)  # away from a kink
        value = np.abs(self._derivatives(theta)[0])
        pre = np.sqrt(net.inputs + 1) * (np.abs(self.rows) @ hidden.T)  # of z, (n, m), in units of ε like the rest
        moved = first * pre + 4.0 * value
        outputs = (moved + np.sqrt(net.width) * value) @ weights.T + shift
        sizes = np.linalg.norm(self.rows, axis=1)
        slopes = (4.0 * first + second * pre) * np.linalg.norm(weights, axis=0)
        jacobian = net.scale * np.hypot(sizes * np.linalg.norm(slopes, axis=1), np.linalg.norm(moved, axis=1))
        return EPS * np.linalg.norm(net.scale * outputs + np.abs(self.baseline), axis=1), EPS * jacobian

    def _derivatives(self, theta: Array) -> tuple[Array, Array, Array, Array]:
        return self.network.activation.derivatives(self.rows @ self.network.split(theta)[0].T)


@dataclass(frozen=True, eq=False)
class NetworkExpansion(Expansion):
    """The network's outputs at hidden V (B, m, d+1), weights A (B, C, m), shift c (B, C), and their derivatives."""

    outputs: NetworkOutputs
    hidden: Array
    weights: Array
    shift: Array

    @cached_property
    def _sigma(self) -> tuple[Array, Array, Array, Array]:
        return self.outputs.network.activation.derivatives(self._preactivation(self.hidden))

    def _preactivation(self, hidden: Array) -> Array:
        return self.outputs.rows @ hidden.swapaxes(-1, -2)

    def _join(self, inner: Array, across: Array, shift: Array) -> Array:
        """θ-shaped rows from ∂/∂z (B, n, m), ∂/∂A (B, C, m) and ∂/∂c (B, C)."""
        net = self.outputs.network
        return net.scale * net.join(inner.swapaxes(-1, -2) @ self.outputs.rows, across, shift)

    def _direction(self, v: Array) -> tuple[Array, Array, Array]:
        """ż (B, n, m), Ȧ (B, C, m), ċ (B, C) of a parameter direction (B, p)."""
        hidden, weights, shift = self.outputs.network.split(v)
        return self._preactivation(hidden), weights, shift

    @cached_property
    def value(self) -> Array:
        linear = self._sigma[0] @ self.weights.swapaxes(-1, -2) + self.shift[:, None, :]
        return self.outputs.network.scale * linear - self.outputs.baseline

    def vjp(self, u: Array) -> Array:
        value, slope, *_ = self._sigma
        return self._join((u @ self.weights) * slope, u.swapaxes(-1, -2) @ value, u.sum(-2))

    def jvp(self, v: Array) -> Array:
        dz, dweights, dshift = self._direction(v)
        return self._output_change(self._sigma[1] * dz, dweights, dshift)

    def _output_change(self, moved: Array, dweights: Array, dshift: Array) -> Array:
        inner = moved @ self.weights.swapaxes(-1, -2) + self._sigma[0] @ dweights.swapaxes(-1, -2)
        return self.outputs.network.scale * (inner + dshift[:, None, :])

    def second(self, u: Array, pull: Pull | None = None) -> Pull:
        value, slope, curvature, _ = self._sigma
        outer_curvature = (u @ self.weights) * curvature

        def product(v: Array) -> Array:
            dz, dweights, dshift = self._direction(v)
            moved, inner = slope * dz, u @ dweights
            across, shift = u.swapaxes(-1, -2) @ moved, np.zeros_like(dshift)
            if pull is not None:
                pulled = pull(self._output_change(moved, dweights, dshift))
                inner = inner + pulled @ self.weights
                across, shift = across + pulled.swapaxes(-1, -2) @ value, pulled.sum(-2)
            inner = inner * slope
            inner += outer_curvature * dz
            return self._join(inner, across, shift)

        return product

    def quadratic(self, v: Array) -> Array:
        _, slope, curvature, _ = self._sigma
        dz, dweights, _ = self._direction(v)
        twice = 2.0 * (slope * dz) @ dweights.swapaxes(-1, -2)
        return self.outputs.network.scale * ((curvature * dz**2) @ self.weights.swapaxes(-1, -2) + twice)

    def third(self, u: Array, v: Array) -> Array:
        _, _, curvature, third = self._sigma
        dz, dweights, dshift = self._direction(v)
        inner = 2.0 * (u @ dweights) * curvature * dz + (u @ self.weights) * third * dz**2
        return self._join(inner, u.swapaxes(-1, -2) @ (curvature * dz**2), np.zeros_like(dshift))
