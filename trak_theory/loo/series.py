"""Influence of a point or a group as a series: infinitesimal jackknife of orders 1–3, and Newton's step with its terms.

Evaluated from the terms that `symbolic.leave_one_out_series` derives, with directional derivatives only: at order s
every point holds its direction θ_s as a row and its effect on all outputs, φ_jᵀθ_s, as another.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import factorial
from typing import TYPE_CHECKING

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike

from trak_theory.glm.model import Fit
from trak_theory.loo.solving.group_problems import GroupProblems, group_problems
from trak_theory.loo.solving.problems import leave_one_out_problems
from trak_theory.losses import LOSSES, PseudoHuber
from trak_theory.numerics.checks import positive_count, query_array
from trak_theory.numerics.whitening import whiten

if TYPE_CHECKING:
    from trak_theory.symbolic.leave_one_out_series import Series, Term

BLOCK = 256
HIGHEST_ORDER = 3


def infinitesimal_jackknife(
    fit: Fit, queries: ArrayLike, *, order: int, groups: Sequence[ArrayLike] | None = None
) -> Array:
    """IJ-1, IJ-2 or IJ-3, presence sign: −Σ_{s ≤ order} (−1)^s φ*ᵀθ_s / s!, (n, q), or (g, q) for `groups` of points.

    θ(τ) = θ̂ + Σ τ^s θ_s/s! minimises F + τ Σ_S w_i ℓ_i, S one point or a group. IJ-1 is the influence function. For
    the squared loss the relative error of a point is h_i^order exactly; on data copied m times the error falls as
    m^{−(order+1)}. Order 3 needs the fourth derivative of the loss (the built-in ones have it).

    Cost: `order` products (n, m)·(m, n), m = min(n, p), after one factorisation; memory 256 × n.

    >>> from trak_theory import GLM, influence
    >>> fit = GLM([[1.0], [1.0], [-1.0]], [1.0, 0.0, 0.0], loss="logistic", ridge=1.0).fit()
    >>> first = infinitesimal_jackknife(fit, [[1.0]], order=1)
    >>> bool(np.allclose(first, influence(fit.linearize([[1.0]]))))
    True
    """
    from trak_theory.symbolic.leave_one_out_series import weight_series

    return _expand(fit, queries, weight_series(), _checked(order), groups)


def newton_expansion(
    fit: Fit, queries: ArrayLike, *, order: int = 2, groups: Sequence[ArrayLike] | None = None
) -> Array:
    """Newton's step (order 1: `newton`, `group_newton`) with its second- and third-order terms, (n, q) or (g, q).

    θ(τ) = θ̂ + Σ τ^s θ_s/s! minimises F_{−S} + (1 + τ) Σ_S w_i ∇ℓ_i(θ̂)ᵀθ. Presence sign. On data copied m times the
    error falls as m^{−(order+1)}; zero at every order for the squared loss. NaN where nothing is left (leverage 1).

    Cost: `order` products (n, m)·(m, n), m = min(n, p), after one factorisation; memory 256 × n.

    >>> from trak_theory import GLM, newton
    >>> fit = GLM([[1.0], [1.0], [-1.0]], [1.0, 0.0, 0.0], loss="logistic", ridge=1.0).fit()
    >>> first = newton_expansion(fit, [[1.0]], order=1)
    >>> bool(np.allclose(first, newton(fit.linearize([[1.0]]))))
    True
    """
    from trak_theory.symbolic.leave_one_out_series import gradient_series

    return _expand(fit, queries, gradient_series(), _checked(order), groups)


def group_interaction(fit: Fit, groups: Sequence[ArrayLike], queries: ArrayLike, *, order: int = 2) -> Array:
    """Influence of each group that a sum over its points misses, (g, q): I_S − Σ_{i∈S} I_i by `newton_expansion`.

    Exact for the squared loss; its leading term is −Σ_{i≠j∈S} r_i K_ij d_j K_j* there (see
    `symbolic.leave_one_out_series`), and the error of order 2 falls as m^{−3} on data copied m times. Presence sign.
    """
    alone = np.unique(np.concatenate([np.asarray(group) for group in groups]))
    singles = newton_expansion(fit, queries, order=order, groups=list(alone[:, None]))
    sums = [singles[np.searchsorted(alone, np.asarray(group))].sum(0) for group in groups]
    return newton_expansion(fit, queries, order=order, groups=groups) - np.array(sums)


def _checked(order: int) -> int:
    if positive_count("order", order) > HIGHEST_ORDER:
        raise ValueError(f"order = {order} needs derivatives of the loss beyond the fourth; use 1 to {HIGHEST_ORDER}")
    return order


def _expand(fit: Fit, queries: ArrayLike, series: Series, order: int, groups: Sequence[ArrayLike] | None) -> Array:
    problems = leave_one_out_problems(fit)
    query_rows = whiten(fit.minimum.factor, fit.space.pull(query_array(queries, fit.glm.features.shape[1])))
    arrays = [np.asarray(group) for group in (np.arange(len(problems.rows))[:, None] if groups is None else groups)]
    derivatives = [_derivative(fit, m) for m in range(1, order + 2)]  # order s meets derivatives up to s + 1
    influence = np.zeros((len(arrays), len(query_rows)))
    for start in range(0, len(arrays), BLOCK):
        block = slice(start, start + BLOCK)
        without = group_problems(fit, problems, arrays[block])
        directions = _directions(without, derivatives, series.terms[:order], series.downdated)
        for s, direction in enumerate(directions, start=1):
            influence[block] -= (-1) ** s / factorial(s) * direction @ query_rows.T
    return influence


def _directions(
    without: GroupProblems, derivatives: list[Array], terms: tuple[tuple[Term, ...], ...], downdated: bool
) -> list[Array]:
    """θ_1, θ_2, … of the left-out groups, each (b, m) in the coordinates that whiten H."""
    directions: list[Array] = []
    outputs: list[Array] = []  # φ_jᵀθ_s, (b, n)
    every = np.arange(len(without.members))
    for order, of_order in enumerate(terms, start=1):
        pull = _force(without.members, derivatives, of_order, outputs, downdated) @ without.rows
        if downdated:
            pull = np.where(without.removable[:, None], without.solve(every, pull)[0], np.nan)
        directions.append(-pull)
        if order < len(terms):
            outputs.append(directions[-1] @ without.rows.T)
    return directions


def _force(
    members: Array, derivatives: list[Array], terms: tuple[Term, ...], outputs: list[Array], downdated: bool
) -> Array:
    """Σ coefficient · w_jℓ_j^{(m)} Π φ_jᵀθ_s for every point j (b, n).

    The group's own loss acts on its members alone, the objective on all, or on the others where it leaves them out.
    """
    force = np.zeros(members.shape)
    for term in terms:
        contracted = _contract(term, derivatives, outputs)
        own = term.tensor == "point"
        force += np.where(members, contracted, 0.0) if own else np.where(members & downdated, 0.0, contracted)
    return force


def _contract(term: Term, derivatives: list[Array], outputs: list[Array]) -> Array:
    """coefficient · w ℓ^{(m)} Π_s (φᵀθ_s)."""
    start = term.coefficient * derivatives[term.derivative - 1]
    return reduce(np.multiply, [outputs[s - 1] for s in term.directions], start)


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
