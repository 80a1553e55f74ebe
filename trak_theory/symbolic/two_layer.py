"""Two-layer network f = aᵀσ(Wx + b) + c: gradient, Hessian blocks and linearisation remainder for a generic σ."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import sympy as sp
from numpy import ndarray as Array

from trak_theory.symbolic.derivation import Derivation, Step, equation, latex, lines
from trak_theory.symbolic.notation import NUMPY, a_w, b_w, w_in, x, z

Parameters = tuple[Array, Array, Array, complex]  # a (m,), W (m, d), b (m,), c
SIGMA = sp.Function("sigma")
A_STEP, Z_STEP, SHARE = sp.symbols("delta_a delta_z s", real=True)


@cache
def unit_blocks() -> dict[str, sp.Expr]:
    """Derivatives of one unit's output a σ(z), z = w x + b, in its own parameters; two units never mix.

    `x` stands for one coordinate of the input: ∂z/∂w = x, and (w, w′) gives x x′. The bias is an input of 1.
    """
    output = a_w * SIGMA(w_in * x + b_w)
    parameters = {"a": a_w, "w": w_in, "b": b_w}
    blocks = {f"df/d{name}": sp.diff(output, symbol) for name, symbol in parameters.items()}
    pairs = [("a", "a"), ("a", "w"), ("a", "b"), ("w", "w"), ("w", "b"), ("b", "b")]
    for one, two in pairs:
        blocks[f"d2f/d{one}d{two}"] = sp.diff(output, parameters[one], parameters[two])
    return {name: _in_preactivation(block) for name, block in blocks.items()}


def _in_preactivation(expression: sp.Expr) -> sp.Expr:
    """σ^{(m)} at w x + b, written as a derivative at z."""
    return expression.subs(b_w, z - w_in * x).doit()


@cache
def linearization_remainder() -> sp.Expr:
    """f(θ + Δ) − f(θ) − ∇fᵀΔ of one unit: z is linear in (w, b), so only δ_a and δ_z = δ_wᵀx + δ_b enter."""
    moved = (a_w + A_STEP) * SIGMA(z + Z_STEP)
    slope = sp.diff(SIGMA(z), z)
    return moved - a_w * SIGMA(z) - A_STEP * SIGMA(z) - a_w * slope * Z_STEP


@cache
def remainder_series() -> tuple[sp.Expr, sp.Expr]:
    """The terms of second and third order of the remainder, by a Taylor expansion along sΔ."""
    scaled = linearization_remainder().subs({A_STEP: SHARE * A_STEP, Z_STEP: SHARE * Z_STEP})
    return tuple(
        sp.expand(sp.diff(scaled, SHARE, order).subs(SHARE, 0).doit() / sp.factorial(order)) for order in (2, 3)
    )


def with_activation(expression: sp.Expr, activation: sp.Expr) -> sp.Expr:
    """The expression for a concrete σ, given as an expression in z."""
    return expression.subs(SIGMA, sp.Lambda(z, activation)).doit()


@cache
def _numeric_blocks(activation: sp.Expr) -> dict[str, Callable[..., Array]]:
    return {
        name: sp.lambdify([a_w, z, x], with_activation(block.subs(x, 1), activation), NUMPY)
        for name, block in unit_blocks().items()
    }


def gradient(parameters: Parameters, inputs: Array, activation: sp.Expr) -> Array:
    """∂f/∂(a, W, b, c) at one input x (d,); parameters a (m,), W (m, d), b (m,), c. Shape (m + md + m + 1,)."""
    outer, weights, bias, _ = parameters
    value, slope = (_of_units(name, outer, weights @ inputs + bias, activation) for name in ("df/da", "df/dw"))
    return np.concatenate([value, np.outer(slope, inputs).ravel(), slope, [1.0]])


def hessian(parameters: Parameters, inputs: Array, activation: sp.Expr) -> Array:
    """∂²f/∂(a, W, b, c)² at one input, assembled from the blocks of each unit; in the order of `gradient`."""
    outer, weights, bias, _ = parameters
    units, width = weights.shape
    mixed, curvature = (
        _of_units(name, outer, weights @ inputs + bias, activation) for name in ("d2f/dadw", "d2f/dwdw")
    )
    extended = np.append(inputs, 1.0)
    total = np.zeros((units * (width + 2) + 1,) * 2)
    for u in range(units):
        inner = np.append(units + u * width + np.arange(width), units * (width + 1) + u)
        total[np.ix_(inner, inner)] = curvature[u] * np.outer(extended, extended)
        total[u, inner] = total[inner, u] = mixed[u] * extended
    return total


def _of_units(name: str, outer: Array, preactivations: Array, activation: sp.Expr) -> Array:
    return np.broadcast_to(_numeric_blocks(activation)[name](outer, preactivations, 1.0), outer.shape)


@cache
def derivation() -> Derivation:
    blocks = unit_blocks()
    second, third = remainder_series()
    gradient_lines = [equation(rf"\partial f/\partial {s}", blocks[f"df/d{s}"]) for s in ("a", "w", "b")]
    hessian_lines = [
        equation(rf"\partial^2 f/\partial {one}\,\partial {two}", blocks[f"d2f/d{one}d{two}"])
        for one, two in (("a", "w"), ("a", "b"), ("w", "w"), ("w", "b"), ("b", "b"))
    ]
    return Derivation(
        title="Two-layer network",
        statement=(
            r"For $f = a^\top\sigma(Wx + b) + c$ the Hessian of $f$ is block diagonal over hidden units. "
            r"The Hessian of the loss is $\Phi^\top D\Phi + \lambda I + \sum_i r_i\nabla^2 f_i$: the "
            r"Gauss--Newton matrix drops the last term, and the linearised model drops the remainder "
            r"$f(\theta + \Delta) - f - \nabla f^\top\Delta$."
        ),
        assumptions=(
            r"$\sigma$ twice differentiable (three times for the third-order term); none of this holds for "
            r"ReLU.",
        ),
        steps=(
            Step("One hidden unit and one input coordinate, by differentiation:", lines(gradient_lines)),
            Step("Second derivatives:", lines(hessian_lines)),
            Step(
                r"All blocks of different units, of $c$, and $\partial^2f/\partial a^2$ vanish. With "
                r"$\tilde x = (x, 1)$, $\tilde w = (w, b)$, one unit has",
                r"\partial^2 f/\partial a\,\partial\tilde w = \sigma'(z)\,\tilde x,\quad \partial^2 "
                r"f/\partial\tilde w^2 = a\,\sigma''(z)\,\tilde x\tilde x^\top",
            ),
            Step(
                "The dropped Gauss--Newton term is therefore block diagonal over units, with blocks",
                r"\sum_i r_i \begin{pmatrix} 0 & \sigma'(z_i)\,\tilde x_i^\top \\ \sigma'(z_i)\,\tilde x_i "
                r"& a\,\sigma''(z_i)\,\tilde x_i\tilde x_i^\top \end{pmatrix}",
            ),
            Step(
                r"The linearisation remainder of one unit, exactly, with $\delta_z = \delta_w^\top x + "
                r"\delta_b$:",
                latex(linearization_remainder()),
            ),
            Step("Its second-order term is", latex(second)),
            Step("and its third-order term", latex(third)),
        ),
        twins=("trak_theory.symbolic.two_layer.gradient", "trak_theory.symbolic.two_layer.hessian"),
        expressions={
            **blocks,
            "remainder": linearization_remainder(),
            "remainder, second order": second,
            "remainder, third order": third,
        },
    )
