"""The chain exact → newton → influence → unit curvature → no ridge → projected: every rung and gap in r, d, h, c."""

from __future__ import annotations

from functools import cache

import sympy as sp

from trak_theory.symbolic.derivation import Derivation, Step, equation, latex, lines
from trak_theory.symbolic.leave_one_out_series import (
    gradient_condition,
    solved_in_one_dimension,
    weight_series,
)
from trak_theory.symbolic.notation import G_j, c, c_0, c_I, c_I0, c_Ij, c_P, d, d_j, e, h, j, k, lamda, n, r, v

INFLUENCE = -r * c
NEWTON = -r * c / (1 - h)

RUNGS = {
    "exact": NEWTON + e,
    "newton": NEWTON,
    "influence": INFLUENCE,
    "unit curvature": -r * c_I,
    "no ridge": -r * c_0,
    "projected": -r * c_P,
}
KERNEL_DIFFERENCES = {
    "unit curvature": sp.Sum((1 - d_j[j]) * G_j[j] * c_Ij[j], (j, 0, n - 1)),
    "no ridge": -lamda * c_I0,
}
GAPS = {
    "exact - newton": e,
    "newton - influence": -r * c * h / (1 - h),
    "influence - unit curvature": -r * KERNEL_DIFFERENCES["unit curvature"],
    "unit curvature - no ridge": -r * KERNEL_DIFFERENCES["no ridge"],
    "no ridge - projected": -r * (c_0 - c_P),
}


@cache
def downdated_inverse() -> tuple[sp.Expr, sp.Expr]:
    """H_{−i} and its Sherman–Morrison inverse H⁻¹ + d H⁻¹φφᵀH⁻¹/(1 − h), for a generic 2 × 2 Hessian."""
    a11, a12, a22, f1, f2 = sp.symbols("H_11 H_12 H_22 phi_1 phi_2", real=True)
    hessian, row = sp.Matrix([[a11, a12], [a12, a22]]), sp.Matrix([f1, f2])
    inverse = hessian.inv()
    leverage = d * (row.T * inverse * row)[0]
    updated = inverse + d * inverse * row * row.T * inverse / (1 - leverage)
    return hessian - d * row * row.T, updated


def least_squares_exact() -> sp.Expr:
    """−φ*ᵀH_{−i}⁻¹ φ r with Sherman–Morrison, before h = d v is used."""
    return -r * (c + d * c * v / (1 - d * v))


def jackknife_least_squares(order: int) -> sp.Expr:
    """IJ-`order` for the squared loss, from the derived terms with D³ = D⁴ = 0, in r, h, c.

    In whitened coordinates along φ: θ_s = t_s H⁻¹φ, the point's own Hessian turns H⁻¹φ into h H⁻¹φ.
    """
    lengths: dict[int, sp.Expr] = {}
    total = sp.Integer(0)
    for s, terms in enumerate(weight_series().terms[:order], start=1):
        pull = sp.Integer(0)
        for term in terms:
            if term.tensor == "point" and term.derivative <= 2:
                along = h * lengths[term.directions[0]] if term.directions else r
                pull += term.coefficient * along
        lengths[s] = -pull
        total -= (-1) ** s / sp.factorial(s) * lengths[s] * c
    return sp.factor(total)


def jackknife_geometric(order: sp.Expr = k) -> sp.Expr:
    """−r c (1 + h + … + h^{order−1}) in closed form."""
    return INFLUENCE * (1 - h**order) / (1 - h)


@cache
def derivation() -> Derivation:
    relative = sp.simplify((NEWTON - INFLUENCE) / NEWTON)
    jackknife = sp.simplify((NEWTON - jackknife_geometric()) / NEWTON)
    return Derivation(
        title="The chain from exact leave-one-out to the projected kernel",
        statement=(
            r"Every rung of the ladder is an expression in $r, d, h, c$ and kernels, every gap between "
            r"neighbours is one too, and the gaps telescope. For the squared loss the exact influence is "
            rf"${latex(NEWTON)}$, and IJ-$k$ has relative error ${latex(jackknife)}$."
        ),
        assumptions=(
            r"A generalised linear model at its optimum; $h < 1$ for every point.",
            r"One common ridge $\lambda$; $S = \Phi^\top\Phi$ invertible on the span of the rows for the "
            r"ridgeless rung.",
        ),
        steps=(
            Step(
                "Sherman--Morrison for the Hessian without point $i$:",
                r"H_{-i}^{-1} = (H - d\,\phi\phi^\top)^{-1} = H^{-1} + \frac{d\,H^{-1}\phi\phi^\top "
                r"H^{-1}}{1 - h}",
            ),
            Step(
                r"The Newton step from $\hat\theta$ moves by $r H_{-i}^{-1}\phi$, so its influence is",
                equation(r"-r\,\phi_*^\top H_{-i}^{-1}\phi", least_squares_exact(), NEWTON),
            ),
            Step(
                r"The refit $\Delta$ solves $H_{-i}\Delta + \sum_{j\ne i}\phi_j\,\rho_j(\phi_j^\top\Delta) "
                r"= r\phi$ with $\rho_j(s) = \ell'_j(f_j + s) - \ell'_j(f_j) - \ell''_j(f_j)s$, which "
                r"vanishes for the squared loss:",
                equation(
                    r"I_{\mathrm{exact}} - I_{\mathrm{newton}}",
                    r"\sum_{j\ne i}\rho_j(\phi_j^\top\Delta)\,\phi_j^\top H_{-i}^{-1}\phi_*",
                    e,
                ),
            ),
            Step(
                r"Its leading term is $-\frac12\phi_*^\top\theta_2$ of the Newton series; with one parameter",
                equation(r"\theta_2", solved_in_one_dimension(gradient_condition)[1]),
            ),
            Step(
                "Newton against influence: relative error $h$ in every row,",
                equation(r"\frac{I_{\mathrm{newton}} - I_{\mathrm{influence}}}{I_{\mathrm{newton}}}", relative),
            ),
            Step(
                "Influence against unit curvature, by $A^{-1} - B^{-1} = A^{-1}(B - A)B^{-1}$:",
                equation("c - c_I", KERNEL_DIFFERENCES["unit curvature"]),
            ),
            Step("Unit curvature against no ridge, by the same identity:", equation("c_I - c_0", r"-\lambda\,c_{I0}")),
            Step("No ridge against projected:", r"I_{\mathrm{no\ ridge}} - I_{\mathrm{projected}} = -r\,(c_0 - c_P)"),
            Step(
                "Infinitesimal jackknife of the squared loss, from the derived terms with vanishing $D^3$ and $D^4$:",
                lines(equation(rf"I^{{({s})}}", jackknife_least_squares(s)) for s in (1, 2, 3)),
            ),
            Step(
                "a geometric series in the leverage, with relative error",
                equation(r"\frac{I - I^{(k)}}{I}", jackknife),
            ),
        ),
        twins=(
            "trak_theory.attribution.newton",
            "trak_theory.attribution.influence",
            "trak_theory.linearization.unit_curvature",
            "trak_theory.linearization.drop_ridge",
            "trak_theory.linearization.project",
            "trak_theory.loo.series.infinitesimal_jackknife",
        ),
        expressions={**RUNGS, **{f"gap {name}": gap for name, gap in GAPS.items()}},
    )
