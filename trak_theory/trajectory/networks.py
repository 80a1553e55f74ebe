"""Small fully connected networks as objectives, with every derivative written out."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from trak_theory.numerics.checks import positive_count, real_array

Layer = tuple[Array, Array]  # weights (…, out, in), bias (…, out)


class MLP:
    """ℓ_i(θ) = cross-entropy of softmax(z_i) with label y_i;  z = W_L a_{L−1} + b_L,  a_l = tanh(W_l a_{l−1} + b_l).

    features (n, d); labels (n,) in 0 … classes − 1; hidden widths. θ stacks W_1 (out, in) row by row, b_1, W_2, …, as
    `torch.nn.Sequential` of `Linear` layers does. Complex θ passes through every method.
    """

    def __init__(self, features: Any, labels: Any, *, hidden: tuple[int, ...], classes: int | None = None) -> None:
        self.features = real_array("features", features, 2)
        self.labels = real_array("labels", labels, 1).astype(int)
        n, d = self.features.shape
        self.classes = int(self.labels.max()) + 1 if classes is None else positive_count("classes", classes)
        if self.labels.shape != (n,):
            raise ValueError(f"labels has {self.labels.size} values for n = {n} rows of features")
        if self.labels.min() < 0 or self.labels.max() >= self.classes or np.any(self.labels != labels):
            raise ValueError(f"labels must be integers in 0 … {self.classes - 1}")
        self.widths = (d, *(positive_count("a hidden width", width) for width in hidden), self.classes)

    @property
    def n(self) -> int:
        return self.features.shape[0]

    @property
    def p(self) -> int:
        return sum(out * (width + 1) for width, out in pairwise(self.widths))

    def start(self, rng: Generator) -> Array:
        """Random θ (p,): weights N(0, 1/fan-in), biases 0."""
        parts = []
        for width, out in pairwise(self.widths):
            parts += [rng.standard_normal(out * width) / np.sqrt(width), np.zeros(out)]
        return np.concatenate(parts)

    def outputs(self, theta: Array, batch: Array) -> Array:
        """θ (…, p) ↦ z (…, B, classes)."""
        return self._forward(self._layers(theta), self._inputs(theta, batch))[-1]

    def loss(self, theta: Array, batch: Array) -> Array:
        z = _shifted(self.outputs(theta, batch))
        own = np.take_along_axis(z, self._own(z, batch), -1)[..., 0]
        return np.log(np.exp(z).sum(-1)) - own

    def gradient(self, theta: Array, batch: Array, weights: Array) -> Array:
        layers = self._layers(theta)
        activations = self._forward(layers, self._inputs(theta, batch))
        delta = np.asarray(weights)[..., None] * self._residual(activations[-1], batch)
        return self._backward(layers, activations, delta)

    def sample_gradients(self, theta: Array, batch: Array) -> Array:
        layers = self._layers(theta)
        activations = self._forward(layers, self._inputs(theta, batch))
        deltas = self._deltas(layers, activations, self._residual(activations[-1], batch))
        gradients = self._empty(deltas[0][:, 0])
        for (weight, bias), delta, below in zip(self._layers(gradients), deltas, activations[:-1], strict=True):
            np.multiply(delta[:, :, None], below[:, None, :], out=weight)
            bias[...] = delta
        return gradients

    def hvp(self, theta: Array, batch: Array, weights: Array, directions: Array) -> Array:
        layers, moves = self._layers(theta), self._layers(directions)
        activations = self._forward(layers, self._inputs(theta, batch))
        tangents = self._forward_tangent(layers, moves, activations)
        delta = weights[:, None] * self._residual(activations[-1], batch)
        moved = weights[:, None] * _softmax_slope(activations[-1], tangents[-1])
        products = self._empty(moved[..., 0, 0])
        for level, (weight, bias) in reversed(list(enumerate(self._layers(products)))):
            below, move_below = activations[level], tangents[level]
            np.matmul(moved.swapaxes(-1, -2), below, out=weight)
            bias[...] = moved.sum(-2)
            if level:
                weight += delta.T @ move_below
                slope = 1 - below * below
                moved = moved @ layers[level][0] + delta @ moves[level][0]
                delta = delta @ layers[level][0]
                moved = moved * slope - 2 * delta * below * move_below
                delta = delta * slope
        return products

    def ggn(self, theta: Array, batch: Array, weights: Array, directions: Array) -> Array:
        layers = self._layers(theta)
        activations = self._forward(layers, self._inputs(theta, batch))
        tangent = self._forward_tangent(layers, self._layers(directions), activations)[-1]
        delta = weights[:, None] * _softmax_slope(activations[-1], tangent)
        return self._backward(layers, activations, delta)

    def _inputs(self, theta: Array, batch: Array) -> Array:
        return self.features[batch].astype(theta.real.dtype, copy=False)

    def _layers(self, theta: Array) -> list[Layer]:
        layers, at = [], 0
        for width, out in pairwise(self.widths):
            weight = theta[..., at : at + out * width].reshape(*theta.shape[:-1], out, width)
            at += out * width
            layers.append((weight, theta[..., at : at + out]))
            at += out
        return layers

    def _forward(self, layers: list[Layer], inputs: Array) -> list[Array]:
        """[a_0, a_1, …, z], each (…, B, width)."""
        activations = [inputs]
        for level, (weight, bias) in enumerate(layers, 1):
            z = activations[-1] @ weight.swapaxes(-1, -2) + bias[..., None, :]
            activations.append(z if level == len(layers) else np.tanh(z))
        return activations

    def _forward_tangent(self, layers: list[Layer], moves: list[Layer], activations: list[Array]) -> list[Array]:
        tangents = [np.zeros_like(activations[0])]
        for level, ((weight, _), (dweight, dbias)) in enumerate(zip(layers, moves, strict=True), 1):
            dz = activations[level - 1] @ dweight.swapaxes(-1, -2) + dbias[..., None, :]
            if level > 1:
                dz = dz + tangents[-1] @ weight.T
            tangents.append(dz if level == len(layers) else (1 - activations[level] ** 2) * dz)
        return tangents

    def _deltas(self, layers: list[Layer], activations: list[Array], delta: Array) -> list[Array]:
        """∂/∂(pre-activation) of every layer, first layer first, from that of the outputs."""
        deltas = [delta]
        for (weight, _), below in zip(layers[:0:-1], activations[-2:0:-1], strict=True):
            deltas.insert(0, (deltas[0] @ weight) * (1 - below * below))
        return deltas

    def _backward(self, layers: list[Layer], activations: list[Array], delta: Array) -> Array:
        gradient = self._empty(delta[..., 0, 0])
        deltas = self._deltas(layers, activations, delta)
        for (weight, bias), own, below in zip(self._layers(gradient), deltas, activations[:-1], strict=True):
            np.matmul(own.swapaxes(-1, -2), below, out=weight)
            bias[...] = own.sum(-2)
        return gradient

    def _empty(self, like: Array) -> Array:
        """(…, p) for the leading axes (…) and dtype of an array, to be filled layer by layer."""
        return np.empty((*like.shape, self.p), like.dtype)

    def _own(self, z: Array, batch: Array) -> Array:
        return np.broadcast_to(self.labels[batch][:, None], (*z.shape[:-1], 1))

    def _residual(self, z: Array, batch: Array) -> Array:
        """∂ℓ/∂z = softmax(z) − onehot(y)."""
        residual = _softmax(z)
        own = self._own(z, batch)
        np.put_along_axis(residual, own, np.take_along_axis(residual, own, -1) - 1, -1)
        return residual


def _shifted(z: Array) -> Array:
    return z - z.real.max(-1, keepdims=True)


def _softmax(z: Array) -> Array:
    raised = np.exp(_shifted(z))
    return raised / raised.sum(-1, keepdims=True)


def _softmax_slope(z: Array, dz: Array) -> Array:
    """∂²ℓ/∂z² dz = P ⊙ dz − P (P·dz)."""
    probability = _softmax(z)
    weighted = probability * dz
    return weighted - probability * weighted.sum(-1, keepdims=True)
