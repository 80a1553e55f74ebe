"""Leave-one-out influence as a series: infinitesimal jackknife of orders 1–3, and Newton's step with what follows it.

Evaluated from the terms that `symbolic.leave_one_out_series` derives, with directional derivatives only: at order s
every point holds its direction θ_s as a row and its effect on all outputs, φ_jᵀθ_s, as another.
"""

from __future__ import annotations

from functools import reduce
from math import factorial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray as Array

from trak_theory.glm.model import Fit
from trak_theory.losses import LOSSES, PseudoHuber
from trak_theory.numerics.checks import positive_count
from trak_theory.numerics.whitening import EPS

if TYPE_CHECKING:
    from trak_theory.symbolic.leave_one_out_series import Series, Term

BLOCK = 256
HIGHEST_ORDER = 3


def infinitesimal_jackknife(fit: Fit, queries: Any, *, order: int) -> Array:
    """IJ-1, IJ-2 or IJ-3, shape (n, q), presence sign: −Σ_{s ≤ order} (−1)^s φ*ᵀθ_s / s!.

    θ(τ) = θ̂ + Σ τ^s θ_s/s! minimises F + τ w_i ℓ_i. IJ-1 is the influence function. For the squared loss the relative
    error is h_i^order exactly; on data copied m times the error falls as m^{−(order+1)}. Order 3 needs the fourth
    derivative of the loss (the built-in ones have it).

    Cost: order − 1 pairs of products (n, m)·(m, n), m = min(n, p), after one factorisation; memory 256 × n.
    """
    from trak_theory.symbolic.leave_one_out_series import weight_series

    return _expand(fit, queries, weight_series(), _checked(order))


def newton_expansion(fit: Fit, queries: Any, *, order: int = 2) -> Array:
    """Newton's step (order 1 is `newton`) with its second- and third-order terms, shape (n, q), presence sign.

    θ(τ) = θ̂ + Σ τ^s θ_s/s! minimises F_{−i} + (1 + τ) w_i ∇ℓ_i(θ̂)ᵀθ. On data copied m times the error falls as
    m^{−(order+1)}; zero at every order for the squared loss. Rows of leverage 1 in floating point: NaN.

    Cost: order − 1 pairs of products (n, m)·(m, n), m = min(n, p), after one factorisation; memory 256 × n.
    """
    from trak_theory.symbolic.leave_one_out_series import gradient_series

    return _expand(fit, queries, gradient_series(), _checked(order))


def _checked(order: Any) -> int:
    if positive_count("order", order) > HIGHEST_ORDER:
        raise ValueError(f"order = {order} needs derivatives of the loss beyond the fourth; use 1 to {HIGHEST_ORDER}")
    return order


def _expand(fit: Fit, queries: Any, series: Series, order: int) -> Array:
    rows, query_rows = fit.linearize(queries).whitened
    terms = series.terms[:order]
    derivatives = [_derivative(fit, m) for m in range(1, order + 2)]  # order s meets derivatives up to s + 1
    influence = np.zeros((len(rows), len(query_rows)))
    for start in range(0, len(rows), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(rows)))
        directions = _directions(rows, block, derivatives, terms, series.downdated)
        for s, direction in enumerate(directions, start=1):
            influence[block] -= (-1) ** s / factorial(s) * direction @ query_rows.T
    return influence


def _directions(
    rows: Array, block: Array, derivatives: list[Array], terms: tuple[tuple[Term, ...], ...], downdated: bool
) -> list[Array]:
    """θ_1, θ_2, … of the left-out points `block` (b,), each (b, m) in the coordinates that whiten H."""
    directions: list[Array] = []
    outputs: list[Array] = []  # φ_jᵀθ_s, (b, n)
    for order, of_order in enumerate(terms, start=1):
        pull = _objective_pull(rows, block, derivatives, of_order, outputs, downdated)
        pull += _own_pull(rows, block, derivatives, of_order, outputs)
        directions.append(-_downdate(pull, rows[block], derivatives[1][block]) if downdated else -pull)
        if order < len(terms):
            outputs.append(directions[-1] @ rows.T)
    return directions


def _objective_pull(
    rows: Array,
    block: Array,
    derivatives: list[Array],
    terms: tuple[Term, ...],
    outputs: list[Array],
    downdated: bool,
) -> Array:
    """Σ coefficient · D^m F[…], (b, m); the left-out point's own share is dropped when F leaves it out."""
    terms = tuple(term for term in terms if term.tensor == "objective")
    if not terms:
        return np.zeros((block.size, rows.shape[1]))
    force = reduce(np.add, [_contract(term, derivatives, outputs) for term in terms])
    if downdated:
        force[np.arange(block.size), block] = 0.0
    return force @ rows


def _own_pull(
    rows: Array, block: Array, derivatives: list[Array], terms: tuple[Term, ...], outputs: list[Array]
) -> Array:
    """Σ coefficient · D^m ℓ_i[…], (b, m): the left-out point's own loss acts along its own row."""
    own_outputs = [output[np.arange(block.size), block] for output in outputs]
    own_derivatives = [derivative[block] for derivative in derivatives]
    force = np.zeros(block.size)
    for term in terms:
        if term.tensor == "point":
            force += _contract(term, own_derivatives, own_outputs)
    return force[:, None] * rows[block]


def _contract(term: Term, derivatives: list[Array], outputs: list[Array]) -> Array:
    """coefficient · w ℓ^{(m)} Π_s (φᵀθ_s)."""
    start = term.coefficient * derivatives[term.derivative - 1]
    return reduce(np.multiply, [outputs[s - 1] for s in term.directions], start)


def _downdate(vectors: Array, rows: Array, curvature: Array) -> Array:
    """(I − d a aᵀ)⁻¹ v = v + d a (aᵀv)/(1 − h), row by row: H_{−i}⁻¹ in the coordinates that whiten H."""
    remaining = 1.0 - curvature * np.einsum("bm,bm->b", rows, rows)
    remaining = np.where(remaining > rows.shape[1] * EPS, remaining, np.nan)
    along = np.einsum("bm,bm->b", rows, vectors)
    return vectors + (curvature * along / remaining)[:, None] * rows


def _derivative(fit: Fit, order: int) -> Array:
    """w ∂^order ℓ/∂f^order at the fit, (n,)."""
    loss, targets, outputs = fit.glm.loss, fit.glm.targets, fit.outputs
    if order <= HIGHEST_ORDER:
        return fit.glm.weights * (loss.residual, loss.curvature, loss.third)[order - 1](targets, outputs)
    from trak_theory.symbolic.losses import numeric_derivative

    if LOSSES.get(loss.name) is not type(loss):
        raise ValueError(
            f"order {HIGHEST_ORDER} needs ∂⁴ℓ/∂f⁴, known for {sorted(LOSSES)} only; "
            f"for the loss {loss.name!r} use order 1 or 2"
        )
    width = loss.delta if isinstance(loss, PseudoHuber) else 1.0
    return fit.glm.weights * numeric_derivative(loss.name, order, target=targets, output=outputs, width=width)
