"""θ̂ as a series in the removed weight of one point, for a generic loss: the terms are data.

θ(τ) minimises F(θ) + τ ℓ_i(θ); τ = 0 is the fit, τ = −1 leaves point i out. Implicit differentiation in τ gives

    A θ_s = −Σ (coefficient) · D^m T[θ_{s₁}, …, θ_{s_{m−1}}],      θ(τ) = θ̂ + Σ_s τ^s θ_s / s!

where T is the objective or the point's own loss, D^m its m-th derivative with m − 1 slots filled, and A the Hessian
that is solved with. For a generalised linear model D^m T[…] = Σ_j w_j ℓ_j^{(m)} Π (φ_jᵀθ_{s}) φ_j: directional
derivatives only.

The coefficients are derived in one dimension, where a symmetric multilinear form is a product. They are the same in
p dimensions: the chain rule of order s is a universal sum over set partitions, and a monomial names its partition
type.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import sympy as sp

from trak_theory.symbolic.derivation import Derivation, Step, equation, lines
from trak_theory.symbolic.notation import copies, tau

Tensor = Literal["objective", "point"]
HIGHEST = 4  # one order beyond the infinitesimal jackknife of order three, for its remainder


@dataclass(frozen=True)
class Term:
    """coefficient · D^m T[θ_s for s in directions], m = len(directions) + 1, T the objective or the point's loss."""

    coefficient: int
    tensor: Tensor
    directions: tuple[int, ...]

    @property
    def derivative(self) -> int:
        """m, the order of the derivative of T."""
        return len(self.directions) + 1


@dataclass(frozen=True)
class Series:
    """terms[s − 1] is the right-hand side at order s; `downdated` when F and A leave the point out."""

    name: str
    downdated: bool
    terms: tuple[tuple[Term, ...], ...]


def _symbols(letter: str) -> list[sp.Expr]:
    """The derivatives of one scalar function: F_0 … or G_0 …"""
    return [sp.Symbol(f"{letter}_{order}") for order in range(HIGHEST + 2)]


OBJECTIVE, POINT, OTHER_POINT = _symbols("F"), _symbols("G"), _symbols("G'")
DIRECTIONS = [sp.Symbol(f"theta_{order}") for order in range(HIGHEST + 1)]


def _gradient_along(derivatives: list[sp.Expr]) -> sp.Expr:
    """T′(θ(τ)) as a polynomial in τ, from the derivatives of T at θ̂."""
    change = sum(DIRECTIONS[s] * tau**s / sp.factorial(s) for s in range(1, HIGHEST + 1))
    return sum(derivatives[m + 1] * change**m / sp.factorial(m) for m in range(HIGHEST + 1))


@cache
def _orders(equation_in_tau: Callable[[], sp.Expr]) -> tuple[sp.Expr, ...]:
    """∂^s/∂τ^s of the optimality condition at τ = 0, for s = 1, 2, …"""
    polynomial = sp.Poly(sp.expand(equation_in_tau()), tau)
    return tuple(sp.expand(sp.factorial(s) * polynomial.coeff_monomial(tau**s)) for s in range(1, HIGHEST + 1))


def weight_condition() -> sp.Expr:
    """∇F(θ) + τ ∇ℓ_i(θ) = 0: the objective with the weight 1 + τ on point i."""
    return _gradient_along(OBJECTIVE) + tau * _gradient_along(POINT)


def gradient_condition() -> sp.Expr:
    """∇F_{−i}(θ) + (1 + τ) ∇ℓ_i(θ̂) = 0: the objective without i, tilted so that θ̂ minimises it at τ = 0."""
    return _gradient_along(OBJECTIVE) + tau * POINT[1]


def _terms(polynomial: sp.Expr, order: int) -> tuple[Term, ...]:
    """The monomials of one order as terms, without A θ_s itself."""
    generators = [*OBJECTIVE, *POINT, *DIRECTIONS]
    terms = []
    for powers, coefficient in sp.Poly(polynomial, *generators).terms():
        named = dict(zip(generators, powers, strict=True))
        directions = tuple(s for s, symbol in enumerate(DIRECTIONS) for _ in range(named[symbol]))
        tensor: Tensor = "objective" if any(named[symbol] for symbol in OBJECTIVE) else "point"
        if (tensor, directions) != ("objective", (order,)):
            terms.append(Term(int(coefficient), tensor, directions))
    return tuple(terms)


def _series(name: str, downdated: bool, condition: Callable[[], sp.Expr]) -> Series:
    orders = _orders(condition)
    return Series(name, downdated, tuple(_terms(value, s) for s, value in enumerate(orders, start=1)))


@cache
def weight_series() -> Series:
    """The infinitesimal jackknife: A = H. Truncated at order s it is IJ-s; IJ-1 is the influence function."""
    return _series("infinitesimal jackknife", False, weight_condition)


@cache
def gradient_series() -> Series:
    """Newton's step and what follows it: A = H_{−i}. Truncated at order 1 it is newton."""
    return _series("newton", True, gradient_condition)


def solved_in_one_dimension(condition: Callable[[], sp.Expr]) -> list[sp.Expr]:
    """θ_1, θ_2, … in terms of F_2, F_3, … and G_1, G_2, … for p = 1."""
    solution: dict[sp.Symbol, sp.Expr] = {}
    for order, value in enumerate(_orders(condition), start=1):
        root = sp.solve(value.subs(solution), DIRECTIONS[order])[0]
        solution[DIRECTIONS[order]] = sp.factor(root)
    return list(solution.values())


@cache
def interaction_in_one_dimension() -> sp.Expr:
    """θ_ij = ∂²θ/∂τ_i∂τ_j of the minimiser of F + τ_i ℓ_i + τ_j ℓ_j for p = 1, by implicit differentiation.

    In symbols F_m of the objective, G_m of ℓ_i and its copies G′_m of ℓ_j.
    """
    first, second = sp.symbols("tau_i tau_j")
    alone = {s: sp.Symbol(f"theta_{s}") for s in ("i", "j", "ij")}
    change = first * alone["i"] + second * alone["j"] + first * second * alone["ij"]
    condition = sum(OBJECTIVE[m + 1] * change**m / sp.factorial(m) for m in range(3))
    condition += first * (POINT[1] + POINT[2] * change) + second * (OTHER_POINT[1] + OTHER_POINT[2] * change)
    condition = sp.expand(condition - OBJECTIVE[1])  # F′(θ̂) = 0
    known: dict[sp.Symbol, sp.Expr] = {}
    for name, powers in (("i", (1, 0)), ("j", (0, 1)), ("ij", (1, 1))):
        coefficient = condition.coeff(first, powers[0]).coeff(second, powers[1]).subs(known)
        known[alone[name]] = sp.solve(coefficient, alone[name])[0]
    return sp.factor(known[alone["ij"]])


def replication_order(condition: Callable[[], sp.Expr], order: int) -> sp.Expr:
    """The power of m in θ_s when every point is copied m_c times and the ridge scaled by m_c: −s."""
    theta = solved_in_one_dimension(condition)[order - 1]
    replicated = theta.subs({symbol: copies * symbol for symbol in OBJECTIVE}, simultaneous=True)
    return sp.simplify(copies * sp.diff(replicated, copies) / replicated)


def _as_latex(term: Term, objective: str) -> str:
    """One term, e.g. 3 D³F[θ_1, θ_2]."""
    name = objective if term.tensor == "objective" else r"\ell_i"
    if not term.directions:
        return rf"\nabla {name}"
    slots = ", ".join(rf"\theta_{{{s}}}" for s in term.directions)
    number = "" if term.coefficient == 1 else rf"{term.coefficient}\,"
    return rf"{number}D^{{{term.derivative}}}{name}[{slots}]"


def _order_steps(series: Series, orders: int) -> list[Step]:
    objective, hessian = ("F_{-i}", "H_{-i}") if series.downdated else ("F", "H")
    return [
        Step(
            f"Order {order}:",
            equation(rf"-{hessian}\,\theta_{{{order}}}", " + ".join(_as_latex(term, objective) for term in terms)),
        )
        for order, terms in enumerate(series.terms[:orders], start=1)
    ]


@cache
def derivation() -> Derivation:
    theta = solved_in_one_dimension(weight_condition)
    return Derivation(
        title="Leave-one-out as a series in the removed weight",
        statement=(
            r"The minimiser $\theta(\tau)$ of $F(\theta) + \tau\,\ell_i(\theta)$ is $\hat\theta + \sum_s "
            r"\tau^s\theta_s/s!$. At $\tau = -1$ point $i$ is gone, and the influence on a query is $I = "
            r"-\sum_{s\ge 1} \frac{(-1)^s}{s!}\,\phi_*^\top\theta_s$: cut at $s$ it is IJ-$s$. The same "
            r"with $F_{-i}$ in place of $F$ and only $\nabla\ell_i(\hat\theta)$ switched off gives Newton's "
            r"step (cut at 1) and its second-order term (cut at 2)."
        ),
        assumptions=(
            r"$\ell$ is $s + 1$ times continuously differentiable for $\theta_s$, once more for the remainder of "
            r"IJ-$s$.",
            r"The Hessian of $F + \tau\,\ell_i$ is positive definite at $\theta(\tau)$ for all $\tau \in [-1, 0]$; "
            r"where $\ell'' > 0$ everywhere, if $H$ and $H_{-i}$ are.",
            r"A minimiser exists for all $\tau \in [-1, 0]$; for convex losses, if a unique one exists at "
            r"both ends.",
        ),
        steps=(
            Step("Optimality along the path:", r"\nabla F(\theta(\tau)) + \tau\,\nabla\ell_i(\theta(\tau)) = 0"),
            *_order_steps(weight_series(), 3),
            Step(
                "In one dimension, with $F_m$ and $G_m$ the derivatives of $F$ and $\\ell_i$, the first two orders are",
                lines(equation(rf"\theta_{{{s}}}", theta[s - 1]) for s in (1, 2)),
            ),
            Step(
                "Tilting instead of reweighting:",
                r"\nabla F_{-i}(\theta(\tau)) + (1 + \tau)\,\nabla\ell_i(\hat\theta) = 0",
            ),
            *_order_steps(gradient_series(), 3),
            Step(
                r"Copying every point $m_c$ times and scaling the ridge by $m_c$ multiplies $F$ by $m_c$, "
                r"so that every $\theta_s$ scales as $m_c^{-s}$: the error of IJ-$s$ is of order "
                r"$m_c^{-(s+1)}$, that of Newton of order $m_c^{-2}$, with its second-order term $m_c^{-3}$.",
                lines(
                    equation(
                        rf"\frac{{\partial\log\theta_{{{s}}}}}{{\partial\log m_c}}",
                        replication_order(weight_condition, s),
                    )
                    for s in (1, 2, 3)
                ),
            ),
            Step(
                r"Two points interact at second order: with weights $\tau_i, \tau_j$ of their own, what the sum of "
                r"single influences misses of the pair is $-\phi_*^\top\theta_{ij}$ and smaller terms,",
                lines(
                    (
                        r"-H\,\theta_{ij} = D^{3}F[\theta_i, \theta_j] + D^{2}\ell_i[\theta_j] + D^{2}\ell_j[\theta_i]",
                        equation(r"\theta_{ij}\;(p = 1)", interaction_in_one_dimension()),
                    )
                ),
            ),
            Step(
                r"For the squared loss $D^3F = 0$ and $\theta_i = -r_iH^{-1}\phi_i$, with $K_{ij} = \phi_i^\top "
                r"H^{-1}\phi_j$: the second term of $-r_S^\top(I - K_{SS}D_S)^{-1}K_{S*}$ off the diagonal,",
                r"-\phi_*^\top\theta_{ij} = -r_i K_{ij} d_j K_{j*} - r_j K_{ij} d_i K_{i*}",
            ),
            Step(
                "Remainder of IJ-$s$ on a query (Lagrange), for some $\\xi \\in (-1, 0)$:",
                r"I - I^{(s)} = -\frac{(-1)^{s+1}}{(s+1)!}\,\phi_*^\top\theta^{(s+1)}(\xi)",
            ),
        ),
        twins=(
            "trak_theory.loo.series.infinitesimal_jackknife",
            "trak_theory.loo.series.newton_expansion",
            "trak_theory.loo.series.group_interaction",
        ),
        expressions={
            **{f"theta_{s}": value for s, value in enumerate(theta, start=1)},
            "theta_ij": interaction_in_one_dimension(),
        },
    )
