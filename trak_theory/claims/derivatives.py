"""Identities of derivatives: symbolic expressions against the numeric code that computes the same thing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import sympy as sp
from numpy import ndarray as Array
from numpy.random import Generator

from trak_theory.claims.claim import Claim, identity
from trak_theory.losses import LOSSES, Loss
from trak_theory.symbolic.adamw import tangent
from trak_theory.symbolic.losses import ORDERS, formulas, numeric_derivative
from trak_theory.symbolic.notation import letters_of, numeric, z
from trak_theory.symbolic.two_layer import Parameters, gradient, hessian

COMPLEX_STEP = 1e-30
UNITS, INPUTS = 3, 4


def _outputs(rng: Generator) -> dict[str, Array]:
    """400 outputs |f| ≤ 30, targets 0 and 1"""
    return {"output": rng.uniform(-30, 30, 400), "target": rng.integers(0, 2, 400).astype(float)}


def _network(rng: Generator) -> dict[str, Array]:
    """a network of 3 tanh units on 4 inputs, Gaussian parameters"""
    return {"theta": rng.standard_normal(UNITS * (INPUTS + 2) + 1), "inputs": rng.standard_normal(INPUTS)}


def unflatten(theta: Array) -> Parameters:
    """(a, W, b, c) from the flat parameters, in the order of `gradient`."""
    outer, weights, bias, offset = np.split(theta, np.cumsum([UNITS, UNITS * INPUTS, UNITS]))
    return outer, weights.reshape(UNITS, INPUTS), bias, offset[0]


def network_output(theta: Array, inputs: Array) -> complex:
    outer, weights, bias, offset = unflatten(theta)
    return outer @ np.tanh(weights @ inputs + bias) + offset


def complex_step(function: Callable[[Array], complex | Array], point: Array) -> Array:
    """∂function/∂point, one row for each coordinate of the point, exact to rounding."""
    steps = COMPLEX_STEP * 1j * np.eye(point.size)
    return np.array([np.imag(function(point + step)) / COMPLEX_STEP for step in steps])


def _adamw(rng: Generator) -> dict[str, Any]:
    """one AdamW step in 50 coordinates, after 3 updates; random state, gradient and direction"""
    numbers = {name: rng.standard_normal(50) for name in ("parameter", "first_moment", "gradient")}
    settings = {"learning_rate": 0.01, "weight_decay": 0.1, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-3, "count": 4}
    direction = {name: rng.standard_normal(50) for name in ("theta", "m", "v", "g")}
    return {**numbers, "second_moment": rng.random(50), **settings, "direction": direction}


def _derived_tangent(case: dict[str, Any]) -> Array:
    """The tangent of one step from the symbolic D and S, (3, p)."""

    def value(expression: sp.Expr) -> Array:
        expression = sp.sympify(expression)
        return numeric(expression)(**{letter.name: case[letter.name] for letter in letters_of(expression)})

    rows = {name: np.zeros(50) for name in ("theta", "m", "v")}
    for (new, old), expression in tangent().items():
        rows[new] = rows[new] + value(expression) * case["direction"][old]
    return np.array(list(rows.values()))


def _stepped_tangent(case: dict[str, Any]) -> Array:
    """The same from the optimiser's own code."""
    from trak_theory.trajectory.optimizer.steps import AdamStep

    step = AdamStep(
        lr=case["learning_rate"],
        weight_decay=case["weight_decay"],
        beta1=case["beta1"],
        beta2=case["beta2"],
        eps=case["epsilon"],
        correction1=1 - case["beta1"] ** case["count"],
        correction2=1 - case["beta2"] ** case["count"],
        decoupled=True,
    )
    state = case["parameter"], case["first_moment"], case["second_moment"]
    *dstate, dgradient = (case["direction"][name] for name in ("theta", "m", "v", "g"))
    return np.array(step.tangent(state, case["gradient"], tuple(dstate), dgradient))


def _loss_claim(loss: Loss, order: int) -> Claim:
    which = ORDERS[order]
    return Claim(
        name=f"{loss.name} {which}",
        kind="identity",
        statement=r"\ell" + "'" * order + " = " + sp.latex(formulas()[loss.name].stable[order]),
        source="ours",
        predict=lambda case: numeric_derivative(loss.name, order, **case),
        measure=lambda case: getattr(loss, which)(case["target"], case["output"]),
        domain=_outputs,
    )


CLAIMS = [
    *(_loss_claim(loss(), order) for loss in LOSSES.values() for order in (1, 2, 3)),
    identity(
        "two-layer gradient",
        r"\nabla f = (\sigma(z), a\sigma'(z)x^\top, a\sigma'(z), 1)",
        lambda case: gradient(unflatten(case["theta"]), case["inputs"], sp.tanh(z)),
        lambda case: complex_step(lambda theta: network_output(theta, case["inputs"]), case["theta"]),
        _network,
    ),
    identity(
        "two-layer Hessian",
        r"\nabla^2 f \text{ from } \sigma'(z)\tilde x,\ a\sigma''(z)\tilde x\tilde x^\top",
        lambda case: hessian(unflatten(case["theta"]), case["inputs"], sp.tanh(z)),
        lambda case: complex_step(lambda theta: gradient(unflatten(theta), case["inputs"], sp.tanh(z)), case["theta"]),
        _network,
    ),
    identity(
        "tangent of AdamW",
        r"\dot\theta' = (1-\eta\lambda)\dot\theta - \eta[D\dot m'/(1-\beta_1^t) - S\dot v'/(1-\beta_2^t)]",
        _derived_tangent,
        _stepped_tangent,
        _adamw,
    ),
]
