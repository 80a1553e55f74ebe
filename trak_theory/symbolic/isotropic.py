"""Isotropic least squares, the rank law as a specialisation of the general equations: ρ² = (k/(n−k))/(p/(n−p)).

The general equations are those of state evolution and of the rank law for a Gaussian design with covariance I; here
the loss is squared, λ = μ = 0 and J = 1, and every expectation is of a constant because ℓ″ = 1.
"""

from __future__ import annotations

from functools import cache

import sympy as sp

from trak_theory.symbolic.derivation import Derivation, Step, equation, latex, lines
from trak_theory.symbolic.notation import J, df, e2, eta, gamma, k, lamda, mu, n, p, q11, q12, q22, v_J

CURVATURE_MEAN = {  # E[d^a/(1 + dη)^b] for ℓ″ = 1
    "df": eta / (1 + eta),
    "first": 1 / (1 + eta),
    "second": 1 / (1 + eta) ** 2,
}


def state_equation() -> sp.Expr:
    """p = n E[ηd/(1+ηd)] + λη."""
    return sp.Eq(p, n * CURVATURE_MEAN["df"] + lamda * eta)


def kernel_equations() -> tuple[sp.Expr, sp.Expr, sp.Expr]:
    """df = n e₂/(1+e₂),  p = df + γe₂,  μ = γ(1 − df/k)."""
    return sp.Eq(df, n * e2 / (1 + e2)), sp.Eq(p, df + gamma * e2), sp.Eq(mu, gamma * (1 - df / k))


def overlaps() -> dict[sp.Symbol, sp.Expr]:
    """q₁₁, q₁₂, q₂₂ and v_J of the rank law, with the expectations of the squared loss."""
    return {
        q11: eta / (n * CURVATURE_MEAN["second"] + lamda),
        q12: e2 / (n * CURVATURE_MEAN["first"] / (1 + e2) + lamda),
        q22: e2 / (n / (1 + e2) ** 2 + gamma),
        v_J: q22 + gamma**2 * q22**2 / (J * (k - df + gamma * e2 - gamma**2 * q22)),
    }


def upright(expression: sp.Expr) -> sp.Expr:
    """The same with the differences of k < p < n written so that they are positive."""
    gaps = {sp.Dummy(positive=True): (small, large) for small, large in ((k, p), (k, n), (p, n))}
    for gap, (small, large) in gaps.items():
        expression = expression.subs({small - large: -gap, large - small: gap})
    return sp.factor(expression).subs({gap: large - small for gap, (small, large) in gaps.items()})


@cache
def specialisation() -> dict[sp.Symbol, sp.Expr]:
    """η, df, e₂, γ at λ = μ = 0, solved in turn; k < p < n."""
    (trace,) = sp.solve(state_equation().subs(lamda, 0), eta)
    freedom, total, _ = kernel_equations()
    degrees = k  # μ = 0 with γ > 0
    (kernel,) = sp.solve(freedom.subs(df, degrees), e2)
    (ridge,) = sp.solve(total.subs({df: degrees, e2: kernel}), gamma)
    return {eta: trace, df: degrees, e2: upright(kernel), gamma: upright(sp.factor(ridge))}


@cache
def squared_correlation() -> sp.Expr:
    """ρ² = q₁₂²/(q₁₁ v₁), with everything inserted."""
    q = overlaps()
    value = (q12**2 / (q11 * v_J)).subs(v_J, q[v_J]).subs({letter: q[letter] for letter in (q11, q12, q22)})
    return upright(sp.factor(sp.simplify(value.subs({lamda: 0, J: 1}).subs(specialisation()))))


@cache
def slope() -> sp.Expr:
    """Slope of TRAK on the exact influence, q₁₂/(q₁₁(1+e₂))."""
    value = (q12 / (q11 * (1 + e2))).subs({letter: overlaps()[letter] for letter in (q11, q12)})
    return upright(sp.factor(sp.simplify(value.subs(lamda, 0).subs(specialisation()))))


def slope_on_influence() -> sp.Expr:
    """Slope on the influence function, which is the exact influence times 1 − h = 1/(1 + η)."""
    return upright(sp.factor(slope() * (1 + specialisation()[eta])))


@cache
def derivation() -> Derivation:
    solved = specialisation()
    return Derivation(
        title="Isotropic least squares",
        statement=(
            r"For least squares without ridges and one projection, $k < p < n$, the squared correlation of "
            r"TRAK with the exact influence is $\rho^2 = \frac{k/(n-k)}{p/(n-p)}$. Its slope on the "
            r"influence function is $\rho^2$ too; on the exact influence it is $\rho^2(1 - p/n)$."
        ),
        assumptions=(
            r"Rows $x \sim N(0, I_p)$; $n, p, k$ large with fixed ratios.",
            r"The general equations of state evolution and of the rank law (the project's own, for convex "
            r"losses).",
        ),
        steps=(
            Step("State evolution with the squared loss:", latex(state_equation())),
            Step(r"at $\lambda = 0$:", equation(r"\eta", solved[eta])),
            Step("The kernel's equations:", lines(latex(line) for line in kernel_equations())),
            Step(
                r"at $\mu = 0$:",
                lines(equation(latex(letter), solved[letter]) for letter in (df, e2, gamma)),
            ),
            Step("The overlaps:", lines(equation(latex(letter), value) for letter, value in overlaps().items())),
            Step(
                r"Inserted at $\lambda = 0$, $J = 1$:",
                equation(r"\rho^2", r"\frac{q_{12}^2}{q_{11}v_1}", squared_correlation()),
            ),
            Step("The slope on the exact influence:", equation(r"\frac{q_{12}}{q_{11}(1+e_2)}", slope())),
            Step(
                r"The influence function is the exact influence times $1 - h = 1/(1+\eta)$; the slope on it "
                r"is",
                equation(r"\frac{q_{12}(1+\eta)}{q_{11}(1+e_2)}", slope_on_influence()),
            ),
        ),
        twins=("trak_theory.laws.rank_law.rank_law", "trak_theory.laws.state_evolution.state_evolution"),
        expressions={
            "squared correlation": squared_correlation(),
            "slope": slope(),
            "slope on influence": slope_on_influence(),
        },
    )
