"""The projected kernel K = P(PᵀSP + μI)⁻¹Pᵀ in the cases that can be carried exactly: they pin the general formulas.

P (p, k) has entries N(0, 1/k). S is diagonal: a Gaussian P makes every other S the same problem in rotated axes.
"""

from __future__ import annotations

from functools import cache

import sympy as sp

from trak_theory.symbolic.derivation import Derivation, Step, equation, latex, lines
from trak_theory.symbolic.notation import df, df2, gamma, k, mu, p


def eigenvalues(count: int) -> list[sp.Expr]:
    """s_1 … s_p, the eigenvalues of S."""
    return list(sp.symbols(f"s_1:{count + 1}", positive=True))


@cache
def gaussian_sketch(rows: int, columns: int) -> sp.Expr:
    """P with symbolic entries, to be averaged by `gaussian_expectation`."""
    return sp.Matrix(rows, columns, sp.symbols(f"P_1:{rows + 1}_1:{columns + 1}", real=True))


def gaussian_expectation(polynomial: sp.Expr, sketch: sp.Expr) -> sp.Expr:
    """E of a polynomial in the entries of P, independent N(0, 1/k): E x^a = (a − 1)!! k^{−a/2} for even a, else 0."""
    columns = sketch.shape[1]
    total = sp.Integer(0)
    for powers, coefficient in sp.Poly(sp.expand(polynomial), *sketch).terms():
        if not any(power % 2 for power in powers):
            moments = (sp.factorial2(power - 1) for power in powers)
            total += coefficient * sp.prod(moments) / sp.Integer(columns) ** (sum(powers) // 2)
    return total


ALONG, ACROSS = sp.symbols("phi_parallel phi_perp", real=True)  # φ* = ALONG e₁ + ACROSS e₂ beside φ = e₁


@cache
def sketch_moments(rows: int, columns: int) -> dict[str, sp.Expr]:
    """Exact moments for one p ≥ 2 and k: the matrices E PPᵀ and E PPᵀSPPᵀ, and Var[φᵀPPᵀφ*] for φ = e₁."""
    sketch, spectrum = gaussian_sketch(rows, columns), sp.diag(*eigenvalues(rows))
    gram = sketch * sketch.T
    product_with_query = gram[0, 0] * ALONG + gram[0, 1] * ACROSS

    def mean(value: sp.Expr) -> sp.Expr:
        return gaussian_expectation(value, sketch)

    return {
        "first": gram.applyfunc(mean),
        "second": (gram * spectrum * gram).applyfunc(mean),
        "variance": sp.expand(mean(product_with_query**2) - mean(product_with_query) ** 2),
    }


def variance_general(columns: sp.Expr) -> sp.Expr:
    """Var[φᵀPPᵀφ*] = (|φ|²|φ*|² + (φᵀφ*)²)/k for every p and k, for φ = e₁."""
    return (2 * ALONG**2 + ACROSS**2) / sp.sympify(columns)


def second_moment_general(rows: int, columns: sp.Expr) -> sp.Expr:
    """E PPᵀSPPᵀ = (1 + 1/k) S + (tr S/k) I for every p and k."""
    spectrum = sp.diag(*eigenvalues(rows))
    return (1 + 1 / sp.sympify(columns)) * spectrum + spectrum.trace() / columns * sp.eye(rows)


def degrees(spectrum: list[sp.Expr]) -> tuple[sp.Expr, sp.Expr]:
    """df(γ) and df₂(γ)."""
    return sum(s / (s + gamma) for s in spectrum), sum((s / (s + gamma)) ** 2 for s in spectrum)


def large_ridge_mean(rows: int) -> sp.Expr:
    """R₁₁ = 1/(s₁ + γ) in powers of 1/μ, to μ⁻², with γ(μ) from μ = γ(1 − df(γ)/k)."""
    spectrum = eigenvalues(rows)
    inverse = sp.Symbol("u", positive=True)  # 1/γ
    ridge = (1 - degrees(spectrum)[0].subs(gamma, 1 / inverse) / k) / inverse
    slope = sp.series(1 / ridge, inverse, 0, 3).removeO().coeff(inverse, 2)  # 1/μ = u + slope u² + …
    return 1 / mu - sp.expand(slope + spectrum[0]) / mu**2


def ridge_slope(rows: int) -> tuple[sp.Expr, sp.Expr]:
    """∂γ/∂s₁ at fixed μ, by implicit differentiation of μ = γ(1 − df/k), and its closed form γ²R₁₁²/(k − df₂)."""
    spectrum = eigenvalues(rows)
    effective, squared = degrees(spectrum)
    ridge = gamma * (1 - effective / k)
    implicit = -sp.diff(ridge, spectrum[0]) / sp.diff(ridge, gamma)
    return implicit, gamma**2 / (spectrum[0] + gamma) ** 2 / (k - squared)


@cache
def isotropic_second_moments() -> tuple[sp.Expr, sp.Expr]:
    """A, B of E Π_ab Π_cd = A δ_ab δ_cd + B(δ_ac δ_bd + δ_ad δ_bc), Π the projector on k random dimensions of p.

    With S = I and μ = 0, K = Π. The two constraints tr Π = k and Π² = Π fix A and B.
    """
    A, B = sp.symbols("A B")
    trace = sp.Eq(A * p**2 + 2 * B * p, k**2)
    idempotent = sp.Eq(A * p + B * (p**2 + p), k)
    solution = sp.solve([trace, idempotent], [A, B])
    return sp.factor(solution[A]), sp.factor(solution[B])


def isotropic_variance_general() -> sp.Expr:
    """Var K₁₂ by the general formula, γ²R⁴/(k − df₂), for S = I and μ = 0: γ = p/k − 1."""
    ridge = p / k - 1
    kernel = 1 / (1 + ridge)
    return sp.factor(ridge**2 * kernel**4 / (k - p * kernel**2))


@cache
def plane_mean() -> tuple[sp.Expr, sp.Expr]:
    """E K₁₁ for p = 2, k = 1, μ = 0: the integral over the direction of P, and R₁₁ by the general formula."""
    first, second = eigenvalues(2)
    slope = sp.Symbol("x", positive=True)  # tangent of the angle
    density = 2 / sp.pi / (1 + slope**2)
    exact = sp.integrate(sp.apart(density / (first + second * slope**2), slope), (slope, 0, sp.oo))
    ridge = next(root for root in sp.solve(degrees([first, second])[0] - 1, gamma) if root.is_positive)
    return sp.simplify(exact), 1 / (first + ridge)


def plane_square_moments() -> tuple[sp.Expr, sp.Expr]:
    """E K₁₁² and E K₁₂² for p = 2, k = 1, μ = 0, from ∂K/∂S: they are −∂E K₁₁/∂s₁ and −∂E K₁₁/∂s₂."""
    first, second = eigenvalues(2)
    mean = plane_mean()[1]
    return -sp.diff(mean, first), -sp.diff(mean, second)


def plane_square_moments_general() -> tuple[sp.Expr, sp.Expr]:
    """The same by the general formula for E KΨK with Ψ = e₁e₁ᵀ and e₂e₂ᵀ."""
    spectrum = eigenvalues(2)
    ridge = sp.sqrt(spectrum[0] * spectrum[1])
    kernels = [1 / (s + ridge) for s in spectrum]
    denominator = 1 - sum((s * r) ** 2 for s, r in zip(spectrum, kernels, strict=True))
    spread = [ridge**2 * r**2 / denominator * kernels[0] ** 2 for r in kernels]
    return kernels[0] ** 2 + spread[0], spread[1]


@cache
def derivation() -> Derivation:
    same, other = isotropic_second_moments()
    exact, general = plane_mean()
    ratio = sp.simplify(isotropic_variance_general() / other)
    return Derivation(
        title="The kernel after a random projection",
        statement=(
            r"$\mathrm{E}K_P \simeq R = (S + \gamma I)^{-1}$ with $\mu = \gamma(1 - "
            r"\mathrm{df}(\gamma)/k)$, $\mathrm{E}K_P\Psi K_P \simeq R\Psi R + "
            r"\frac{\gamma^2\operatorname{tr}\Psi R^2}{k - \mathrm{df}_2}R^2$, and $\mathrm{Var}[\phi^\top "
            r"K_P\phi_*] \simeq \frac{\gamma^2}{k - \mathrm{df}_2}[(\phi^\top R^2\phi)(\phi_*^\top "
            r"R^2\phi_*) + (\phi^\top R^2\phi_*)^2]$. These hold for large $k$; here they are compared with "
            r"exact moments."
        ),
        assumptions=(
            r"$P$ has independent entries $N(0, 1/k)$; $S$ diagonal without loss of generality.",
            r"The first formula is taken from the theory of sketched resolvents; the others follow from it "
            r"below.",
        ),
        steps=(
            Step(
                r"Gaussian moments, exact for all $p$ and $k$ (checked entry by entry for $p, k \le 3$):",
                lines(
                    (
                        r"\mathrm{E}PP^\top = I",
                        r"\mathrm{E}PP^\top SPP^\top = (1 + \tfrac1k)S + \tfrac{\operatorname{tr}S}{k}I",
                        r"\mathrm{Var}[\phi^\top PP^\top\phi_*] = \tfrac1k[|\phi|^2|\phi_*|^2 + "
                        r"(\phi^\top\phi_*)^2]",
                    )
                ),
            ),
            Step(
                r"so that for large $\mu$ the exact mean is $\mu^{-1} - \mu^{-2}[(1 + \frac1k)s_1 + "
                r"\operatorname{tr}S/k]$; the general formula agrees up to the term $s_1/(k\mu^2)$ (here $p "
                r"= 2$):",
                equation("R_{11}", large_ridge_mean(2)),
            ),
            Step(
                r"Since $\partial K/\partial S[\Psi] = -K\Psi K$, the second formula is the derivative of "
                r"the first, with $\partial\gamma$ from $\mu = \gamma(1 - \mathrm{df}/k)$:",
                equation(
                    r"\frac{\partial\gamma}{\partial S}[\Psi]",
                    latex(gamma**2 / (k - df2)) + r"\operatorname{tr}\Psi R^2",
                ),
            ),
            Step(
                r"For $S = I$, $\mu = 0$ the kernel is a random projector and $\operatorname{tr}K = k$, "
                r"$K^2 = K$ give $\mathrm{E}K_{11} = k/p = R_{11}$ exactly, and",
                equation(r"\mathrm{Var}K_{12}", other),
            ),
            Step("where the general formula gives", equation(r"\mathrm{Var}K_{12}", isotropic_variance_general())),
            Step(
                "too small by a factor that tends to 1 as $p$ grows, and likewise for the same vector:",
                lines((latex(ratio), equation(r"\mathrm{Var}K_{11}", sp.factor(same + 2 * other - k**2 / p**2)))),
            ),
            Step(
                r"For $p = 2$, $k = 1$, $\mu = 0$ the mean is an integral over directions, and equals "
                r"$R_{11}$ exactly:",
                equation(r"\mathrm{E}K_{11}", exact, general),
            ),
            Step(
                r"There the second formula is exact too. The term $(\phi^\top R^2\phi_*)^2$ of the variance "
                r"is not in it: it is of lower order in the trace, and appears as $k$ grows (it is absent "
                r"for $p = 2$, $k = 1$).",
                equation(r"\mathrm{E}K_{12}^2", sp.factor(plane_square_moments()[1])),
            ),
        ),
        twins=("trak_theory.linearization.project", "trak_theory.projection.error_bars.projection_law"),
        expressions={
            "variance isotropic": other,
            "variance isotropic, general": isotropic_variance_general(),
            "plane mean": exact,
            "plane mean, general": general,
            "projected ridge": gamma * (1 - df / k),
        },
    )
