"""Small fully connected networks as objectives, with every derivative written out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from numpy.typing import ArrayLike
from scipy.special import erf

from trak_theory.numerics.checks import positive_count, real_array
from trak_theory.numerics.digests import digest_of_arrays, digest_of_bytes
from trak_theory.trajectory.convention import one_of

Layer = tuple[Array, Array]  # weights (…, out, in), bias (…, out)
ActivationName = Literal["tanh", "gelu", "relu", "leaky-relu"]
LEAK = 0.01  # the slope of leaky-relu below 0, torch's default


@dataclass(frozen=True)
class Activation:
    """σ, σ′ and σ″, elementwise; complex arguments keep the branch of their real part."""

    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    curvature: Callable[[Array], Array]


def _rectifier(leak: float) -> Activation:
    """max(z, leak · z), whose curvature is 0 beside its kink: what automatic differentiation says."""

    def slope(z: Array) -> Array:
        return np.where(z.real > 0, 1.0, leak).astype(z.real.dtype)

    return Activation(lambda z: z * slope(z), slope, np.zeros_like)


def _gaussian(z: Array) -> Array:
    return np.exp(-z * z / 2) / np.sqrt(2 * np.pi)


def _below(z: Array) -> Array:
    return (1 + erf(z / np.sqrt(2))) / 2


ACTIVATIONS: dict[ActivationName, Activation] = {
    "tanh": Activation(np.tanh, lambda z: 1 - np.tanh(z) ** 2, lambda z: -2 * np.tanh(z) * (1 - np.tanh(z) ** 2)),
    "gelu": Activation(
        lambda z: z * _below(z), lambda z: _below(z) + z * _gaussian(z), lambda z: (2 - z * z) * _gaussian(z)
    ),
    "relu": _rectifier(0.0),
    "leaky-relu": _rectifier(LEAK),
}


@dataclass(frozen=True, eq=False)
class _Pass:
    """A forward pass: a_0, …, a_{L−1} and the pre-activations z_1, …, z_L, each (…, B, width)."""

    activations: list[Array]
    sums: list[Array]

    @property
    def outputs(self) -> Array:
        return self.sums[-1]


class MLP:
    """ℓ_i(θ) = cross-entropy of softmax(z_i) with label y_i;  z = W_L a_{L−1} + b_L,  a_l = σ(W_l a_{l−1} + b_l).

    features (n, d); labels (n,) in 0 … classes − 1; hidden widths; σ by name, one of ACTIVATIONS. θ stacks W_1
    (out, in) row by row, b_1, W_2, …, as `torch.nn.Sequential` of `Linear` layers does. Complex θ passes through every
    method. relu and leaky-relu have the curvature 0 that automatic differentiation gives them, so that no Hessian
    knows of their kinks.

    >>> import numpy as np
    >>> net = MLP(np.eye(3), [0, 1, 1], hidden=(2,), activation="relu")
    >>> net.p, float(net.loss(np.zeros(net.p), np.array([0]))[0].round(4))
    (14, 0.6931)
    """

    def __init__(
        self,
        features: ArrayLike,
        labels: ArrayLike,
        *,
        hidden: tuple[int, ...],
        classes: int | None = None,
        activation: ActivationName = "tanh",
    ) -> None:
        one_of("activation", activation, get_args(ActivationName))
        self.activation = ACTIVATIONS[activation]
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

    def fingerprint(self) -> dict[str, str]:
        """Digests of the samples and of the architecture."""
        activation = next(name for name, own in ACTIVATIONS.items() if own is self.activation)
        layout = f"{self.widths} {activation}"
        return {
            "samples": digest_of_arrays([self.features, self.labels]),
            "the architecture": digest_of_bytes(layout.encode()),
        }

    def start(self, rng: Generator) -> Array:
        """Random θ (p,): weights N(0, 1/fan-in), biases 0."""
        parts = []
        for width, out in pairwise(self.widths):
            parts += [rng.standard_normal(out * width) / np.sqrt(width), np.zeros(out)]
        return np.concatenate(parts)

    def outputs(self, theta: Array, batch: Array) -> Array:
        """θ (…, p) ↦ z (…, B, classes); the batch (B,), or (…, B) with samples of its own for every θ."""
        return self._forward(self.layers(theta), self._inputs(theta, batch)).outputs

    def loss(self, theta: Array, batch: Array) -> Array:
        z = _shifted(self.outputs(theta, batch))
        own = np.take_along_axis(z, self._own(z, batch), -1)[..., 0]
        return np.log(np.exp(z).sum(-1)) - own

    def gradient(self, theta: Array, batch: Array, weights: Array) -> Array:
        layers = self.layers(theta)
        forward = self._forward(layers, self._inputs(theta, batch))
        delta = np.asarray(weights)[..., None] * self._residual(forward.outputs, batch)
        return self._backward(layers, forward, delta)

    def sample_gradients(self, theta: Array, batch: Array) -> Array:
        return self.output_gradients(theta, batch, self._residual(self.outputs(theta, batch), batch))

    def output_gradients(self, theta: Array, batch: Array, directions: Array) -> Array:
        """∂(Σ_c v_ic z_ic)/∂θ (B, p) for directions v (B, C)."""
        layers = self.layers(theta)
        forward = self._forward(layers, self._inputs(theta, batch))
        deltas = self._deltas(layers, forward, directions)
        gradients = self._empty(deltas[0][:, 0])
        for (weight, bias), delta, below in zip(self.layers(gradients), deltas, forward.activations, strict=True):
            np.multiply(delta[:, :, None], below[:, None, :], out=weight)
            bias[...] = delta
        return gradients

    def hvp(self, theta: Array, batch: Array, weights: Array, directions: Array) -> Array:
        layers, moves = self.layers(theta), self.layers(directions)
        forward = self._forward(layers, self._inputs(theta, batch))
        tangents = self._forward_tangent(layers, moves, forward)
        delta = weights[:, None] * self._residual(forward.outputs, batch)
        moved = weights[:, None] * _softmax_slope(forward.outputs, tangents.outputs)
        products = self._empty(moved[..., 0, 0])
        for level, (weight, bias) in reversed(list(enumerate(self.layers(products)))):
            np.matmul(moved.swapaxes(-1, -2), forward.activations[level], out=weight)
            bias[...] = moved.sum(-2)
            if level:
                weight += delta.T @ tangents.activations[level]
                z, dz = forward.sums[level - 1], tangents.sums[level - 1]
                slope = self.activation.slope(z)
                moved = moved @ layers[level][0] + delta @ moves[level][0]
                delta = delta @ layers[level][0]
                moved = moved * slope + delta * self.activation.curvature(z) * dz
                delta = delta * slope
        return products

    def ggn(self, theta: Array, batch: Array, weights: Array, directions: Array) -> Array:
        layers = self.layers(theta)
        forward = self._forward(layers, self._inputs(theta, batch))
        tangent = self._forward_tangent(layers, self.layers(directions), forward).outputs
        delta = weights[:, None] * _softmax_slope(forward.outputs, tangent)
        return self._backward(layers, forward, delta)

    def _inputs(self, theta: Array, batch: Array) -> Array:
        return self.features[batch].astype(theta.real.dtype, copy=False)

    def layers(self, theta: Array) -> list[Layer]:
        """Views of θ (…, p): the weights (…, out, in) and the bias (…, out) of each layer, first layer first."""
        layers, at = [], 0
        for width, out in pairwise(self.widths):
            weight = theta[..., at : at + out * width].reshape(*theta.shape[:-1], out, width)
            at += out * width
            layers.append((weight, theta[..., at : at + out]))
            at += out
        return layers

    def _forward(self, layers: list[Layer], inputs: Array) -> _Pass:
        activations, sums = [inputs], list[Array]()
        for weight, bias in layers:
            if sums:
                activations.append(self.activation.value(sums[-1]))
            sums.append(activations[-1] @ weight.swapaxes(-1, -2) + bias[..., None, :])
        return _Pass(activations, sums)

    def _forward_tangent(self, layers: list[Layer], moves: list[Layer], forward: _Pass) -> _Pass:
        tangents, sums = [np.zeros_like(forward.activations[0])], list[Array]()
        for level, ((weight, _), (dweight, dbias)) in enumerate(zip(layers, moves, strict=True)):
            dz = forward.activations[level] @ dweight.swapaxes(-1, -2) + dbias[..., None, :]
            if level:
                tangents.append(self.activation.slope(forward.sums[level - 1]) * sums[-1])
                dz = dz + tangents[-1] @ weight.T
            sums.append(dz)
        return _Pass(tangents, sums)

    def _deltas(self, layers: list[Layer], forward: _Pass, delta: Array) -> list[Array]:
        """∂/∂(pre-activation) of every layer, first layer first, from that of the outputs."""
        deltas = [delta]
        for (weight, _), below in zip(layers[:0:-1], forward.sums[-2::-1], strict=True):
            deltas.insert(0, (deltas[0] @ weight) * self.activation.slope(below))
        return deltas

    def _backward(self, layers: list[Layer], forward: _Pass, delta: Array) -> Array:
        gradient = self._empty(delta[..., 0, 0])
        deltas = self._deltas(layers, forward, delta)
        for (weight, bias), own, below in zip(self.layers(gradient), deltas, forward.activations, strict=True):
            np.matmul(own.swapaxes(-1, -2), below, out=weight)
            bias[...] = own.sum(-2)
        return gradient

    def _empty(self, like: Array) -> Array:
        """(…, p) for the leading axes (…) and dtype of an array, to be filled layer by layer."""
        return np.empty((*like.shape, self.p), like.dtype)

    def _own(self, z: Array, batch: Array) -> Array:
        return np.broadcast_to(self.labels[batch][..., None], (*z.shape[:-1], 1))

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
