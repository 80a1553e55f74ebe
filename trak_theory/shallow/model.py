"""Two-layer networks and random features, trained to a certified stationary point."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from numpy.typing import ArrayLike

from trak_theory.errors import DeadNetworkError
from trak_theory.glm.model import GLM
from trak_theory.losses import Loss
from trak_theory.numerics.checks import positive_count, real_array
from trak_theory.shallow.activations import Activation, as_activation
from trak_theory.shallow.certificate import Certificate, certify
from trak_theory.shallow.heads import head_for, head_like
from trak_theory.shallow.network import Network
from trak_theory.shallow.objective import Objective
from trak_theory.shallow.queries import Queries
from trak_theory.shallow.solve import Solve, cholesky, stationary_point

Centre = Literal["zero", "initial"]
DEAD = 1e-9  # a unit that moves no output by more than this share of the largest mover is dead


class TwoLayer:
    """min_θ Σ_i L(y_i, f_i(θ)) + (λ/2)‖θ − θ_c‖² with f = s (A σ(W x + b) + c); biases are penalised too.

    inputs X (n, d); targets (n,); loss a scalar loss (name or `Loss`) with one output, or "softmax" with labels
    0 … C−1. activation: tanh, softplus, erf, gelu, or relu (derivatives almost everywhere only). scale s.
    centre "zero": θ_c = 0, ordinary weight decay. centre "initial": outputs *and* penalty are centred at the start,
    f = s (h(θ) − h(θ₀)) and θ_c = θ₀, the lazy parametrisation. ridge λ > 0, sum convention.
    """

    def __init__(
        self,
        inputs: ArrayLike,
        targets: ArrayLike,
        *,
        width: int,
        activation: str | Activation = "tanh",
        loss: str | Loss = "squared",
        classes: int | None = None,
        ridge: float,
        scale: float = 1.0,
        centre: Centre = "zero",
    ) -> None:
        self.inputs = real_array("inputs", inputs, 2)
        self.head = head_for(loss, targets, classes)
        n, d = self.inputs.shape
        if self.head.targets.shape != (n,):
            raise ValueError(f"targets has {self.head.targets.size} values for n = {n} inputs")
        if n == 1:
            raise ValueError("one training point only: leaving it out leaves nothing; at least 2 are needed")
        self.ridge = _positive("ridge", ridge)
        scale = _positive("scale", scale)
        if centre not in get_args(Centre):
            raise ValueError(f"unknown centre {centre!r}: choose one of {get_args(Centre)}")
        self.centre = centre
        width = positive_count("width", width)
        self.network = Network(d, width, self.head.classes, as_activation(activation), scale)

    def initial(self, rng: Generator, *, hidden: float = 1.0, output: float = 1.0) -> Array:
        """A random start θ₀ (p,): [W b] ~ N(0, hidden²/(d+1)), A ~ N(0, output²/m), c = 0."""
        return self.network.initial(rng, hidden=hidden, output=output)

    def fit(self, start: ArrayLike) -> ShallowFit:
        """The stationary point that training from `start` (p,) reaches, with its certificate.

        L-BFGS, then a trust region with the full Hessian, then Newton to the rounding floor. Raises ConvergenceError
        (no stationary point), IndefiniteHessianError (no strict minimum) or DeadNetworkError, with the numbers.
        """
        start = real_array("start", start, 1)
        if start.shape != (self.network.parameters,):
            raise ValueError(f"start has {start.size} values for p = {self.network.parameters} parameters")
        objective = self._objective(start)
        theta = stationary_point(objective, start, np.ones(len(self.inputs)))
        fit = ShallowFit(self, objective, start, theta)
        if len(fit.dead_units) == self.network.width:
            raise DeadNetworkError(
                f"all {self.network.width} hidden units are constant on the {len(self.inputs)} training points: the "
                "network is a constant; use a smaller ridge or another start"
            )
        return fit

    def _objective(self, start: Array) -> Objective:
        reference = start if self.centre == "initial" else None
        centre = start if self.centre == "initial" else np.zeros_like(start)
        return Objective(self.network.on(self.inputs, reference=reference), self.head, self.ridge, centre)


@dataclass(frozen=True, eq=False)
class ShallowFit:
    """A trained network: θ̂ (p,), the start it came from, and what certifies it."""

    model: TwoLayer
    objective: Objective = field(repr=False)
    start: Array = field(repr=False)
    theta: Array = field(repr=False)

    @cached_property
    def hessian(self) -> Array:
        """∇²F(θ̂) (p, p), with Σ r_i∇²f_i."""
        return self.objective.hessian(self.theta, np.ones(len(self.outputs)))

    @cached_property
    def solve(self) -> Solve:
        """v ↦ ∇²F(θ̂)⁻¹ v."""
        return cholesky(self.hessian)

    @cached_property
    def certificate(self) -> Certificate:
        return certify(self.objective, self.theta, np.ones(len(self.outputs)))

    @cached_property
    def outputs(self) -> Array:
        """f(θ̂) (n, C)."""
        return self.objective.outputs.at(self.theta[None]).value[0]

    @cached_property
    def dead_units(self) -> Array:
        """Units whose activation, times its output weight, is constant on the training points."""
        net = self.model.network
        hidden, weights, _ = net.split(self.theta)
        activations = net.activation(self.model.network.on(self.model.inputs).rows @ hidden.T)
        moved = net.scale * np.ptp(activations, axis=0) * np.linalg.norm(weights, axis=0)
        return np.flatnonzero(moved <= DEAD * max(1.0, moved.max()))

    def at(self, inputs: ArrayLike, targets: ArrayLike | None = None) -> Queries:
        """Query points (q, d); softmax queries need labels, whose margin is then the measure."""
        inputs = real_array("query inputs", inputs, 2)
        net = self.model.network
        if inputs.shape[1] != net.inputs:
            raise ValueError(f"query inputs have width {inputs.shape[1]}, the network takes d = {net.inputs}")
        reference = self.start if self.model.centre == "initial" else None
        head = head_like(self.model.head, targets)
        if targets is not None and head.targets.shape != (len(inputs),):
            raise ValueError(f"query targets has {head.targets.size} values for q = {len(inputs)} inputs")
        return Queries(net.on(inputs, reference=reference), head)


@dataclass(frozen=True, eq=False)
class RandomFeatures:
    """φ(x) = (σ(Wx + b)/√m, 1) with a frozen random first layer: the model on top is a GLM, linear in θ.

    For it the linearised rung is exact, so every error of the ladder below is TRAK's own.
    """

    network: Network
    hidden: Array = field(repr=False)

    @staticmethod
    def draw(
        inputs: int, width: int, *, activation: str | Activation = "tanh", rng: Generator, spread: float = 1.0
    ) -> RandomFeatures:
        """W, b ~ N(0, spread²/(inputs + 1))."""
        network = Network(
            positive_count("inputs", inputs), positive_count("width", width), 1, as_activation(activation)
        )
        return RandomFeatures(network, network.split(network.initial(rng, hidden=spread))[0])

    def features(self, inputs: ArrayLike) -> Array:
        """φ (n, m + 1)."""
        rows = self.network.on(real_array("inputs", inputs, 2)).rows
        if rows.shape[1] != self.hidden.shape[1]:
            raise ValueError(f"inputs have width {rows.shape[1] - 1}, the features take {self.network.inputs}")
        activations = self.network.activation(rows @ self.hidden.T) / np.sqrt(self.network.width)
        return np.column_stack([activations, np.ones(len(rows))])

    def glm(self, inputs: ArrayLike, targets: ArrayLike, *, loss: str | Loss = "squared", ridge: float) -> GLM:
        """The GLM on φ(x), its constant penalised like the rest."""
        return GLM(self.features(inputs), targets, loss=loss, ridge=ridge)


def _positive(name: str, value: float) -> float:
    number = float(real_array(name, value, 0))
    if not number > 0:
        raise ValueError(f"{name} must be positive, got {number:g}")
    return number
