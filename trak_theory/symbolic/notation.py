"""The one table of letters, and the bridge from an expression in them to numbers.

An expression in r, h, c *is* an attribution: `evaluate(-r * c / (1 - h), lin)` is `newton(lin)`. LaTeX, the numpy
function (`numeric`) and the high-precision check (`verify`) all come from the same expression.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import mpmath
import numpy as np
import sympy as sp
from numpy import ndarray as Array
from numpy.random import Generator
from numpy.typing import ArrayLike
from scipy.special import expit as numpy_expit

from trak_theory.attribution import trak_kernel
from trak_theory.linearization import Linearization, unit_curvature

if TYPE_CHECKING:
    from sympy.printing.latex import LatexPrinter

Reading = Callable[[Linearization], ArrayLike]


class expit(sp.Function):
    """σ(f) = 1/(1 + e^{−f}), kept whole so that the numpy function does not overflow."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> sp.Expr:
        return expit(self.args[0]) * expit(-self.args[0])

    def _latex(self, printer: LatexPrinter, exp: sp.Expr = None) -> str:
        text = rf"\sigma\!\left({printer._print(self.args[0])}\right)"
        return text if exp is None else rf"{text}^{{{exp}}}"


NUMPY = [{"expit": numpy_expit}, "numpy"]
MPMATH = [{"expit": lambda f: 1 / (1 + mpmath.exp(-f))}, "mpmath"]


@dataclass(frozen=True)
class Letter:
    """One row of the table.

    symbol   the sympy symbol (an IndexedBase for a letter that carries the summation index j)
    name     its name in code
    shape    axes of its array; a leading "j" is the summation index
    meaning  what it is, with sign and normalisation
    read     how it is read off a Linearization; None where it must be given
    domain   the interval in which `verify` draws it
    """

    symbol: sp.Expr
    name: str
    shape: tuple[str, ...]
    meaning: str
    read: Reading | None = None
    domain: tuple[float, float] = (0.2, 2.0)

    def as_columns(self, value: ArrayLike) -> Array:
        """`value` with axes (n, q), so that letters of any shape combine; the axis j stays in front."""
        array = np.asarray(value, float)
        if self.shape[-1:] == ("n",):
            return array[..., None]
        return array[..., None, :] if self.shape == ("j", "q") else array


def _table(*letters: Letter) -> dict[sp.Symbol, Letter]:
    return {letter.symbol: letter for letter in letters}


def _common_ridge(lin: Linearization) -> float:
    if not np.all(lin.ridge == lin.ridge[0]):
        raise ValueError("the letter λ stands for one common ridge; this linearisation has a ridge per coefficient")
    return float(lin.ridge[0])


def _gram(lin: Linearization) -> Array:
    training, _ = lin.whitened
    return training @ training.T


def _cross_two_ridges(lin: Linearization) -> Array:
    """φᵀ(S + λI)⁻¹ S⁺ φ*: the unit-curvature kernel between φ and the ridgeless solution for φ*."""
    ridgeless = lin.queries @ np.linalg.pinv(lin.features.T @ lin.features, hermitian=True)
    return replace(unit_curvature(lin), queries=ridgeless).cross


SIGNED = (-2.0, 2.0)
SHARE = (0.05, 0.95)

n, p, k, q = sp.symbols("n p k q", positive=True)
J = sp.Symbol("J", positive=True)
r, c, c_I, c_0, c_P, c_I0, e = sp.symbols("r c c_I c_0 c_P c_{I0} e", real=True)
d, h, v, lamda = sp.symbols("d h v lambda", positive=True)
G_j, d_j, c_Ij = (sp.IndexedBase(name) for name in ("G", "d", "c_I"))
j = sp.Symbol("j", integer=True)
y, f, a_w, w_in, b_w, x, z = sp.symbols("y f a w b x z", real=True)
delta, tau, copies = sp.Symbol("delta", positive=True), sp.Symbol("tau", real=True), sp.Symbol("m_c", positive=True)
gamma, mu, e2, eta = sp.symbols("gamma mu e_2 eta", positive=True)
df, df2 = (sp.Symbol(name, positive=True) for name in (r"\mathrm{df}", r"\mathrm{df}_2"))
q11, q12, q22, v_J = sp.symbols("q_11 q_12 q_22 v_J", positive=True)
theta, m, g, xi = sp.symbols("theta m g xi", real=True)
v_t, lr, beta1, beta2, eps, t = sp.symbols("v_t eta_t beta_1 beta_2 epsilon t", positive=True)
decay = sp.Symbol(r"\lambda_{\mathrm{wd}}", positive=True)

LETTERS = _table(
    Letter(n, "points", (), "training points", lambda lin: len(lin.features), (14.0, 20.0)),
    Letter(p, "parameters", (), "parameters", lambda lin: lin.features.shape[1], (8.0, 12.0)),
    Letter(q, "queries", (), "queries", lambda lin: len(lin.queries)),
    Letter(k, "dimension", (), "projected dimension", None, (2.0, 6.0)),
    Letter(J, "ensemble", (), "independent projections averaged", None, (1.0, 5.0)),
    Letter(r, "residual", ("n",), r"$w\,\partial\ell/\partial f$", lambda lin: lin.residual, SIGNED),
    Letter(d, "curvature", ("n",), r"$w\,\partial^2\ell/\partial f^2 \ge 0$", lambda lin: lin.curvature),
    Letter(h, "leverage", ("n",), r"$d\,\phi^\top H^{-1}\phi \in [0, 1)$", lambda lin: lin.leverage, SHARE),
    Letter(v, "variance", ("n",), r"$\phi^\top H^{-1}\phi$, so $h = d v$", lambda lin: np.diag(_gram(lin))),
    Letter(c, "cross", ("n", "q"), r"$\phi^\top H^{-1}\phi_*$", lambda lin: lin.cross, SIGNED),
    Letter(lamda, "ridge", (), r"ridge, sum convention: $H = \Phi^\top D\Phi + \lambda I$", _common_ridge),
    Letter(
        c_I,
        "cross_unit",
        ("n", "q"),
        r"$\phi^\top H_I^{-1}\phi_*$, $H_I = S + \lambda I$, $S = \Phi^\top\Phi$",
        lambda lin: unit_curvature(lin).cross,
        SIGNED,
    ),
    Letter(c_0, "cross_ridgeless", ("n", "q"), r"$\phi^\top S^{-1}\phi_*$", lambda lin: trak_kernel(lin).cross, SIGNED),
    Letter(
        c_I0,
        "cross_two_ridges",
        ("n", "q"),
        r"$\phi^\top (S+\lambda I)^{-1} S^{-1}\phi_*$",
        _cross_two_ridges,
        SIGNED,
    ),
    Letter(
        c_P,
        "cross_projected",
        ("n", "q"),
        r"$\phi^\top P(P^\top S P + \mu I)^{-1}P^\top\phi_*$",
        None,
        SIGNED,
    ),
    Letter(
        e,
        "refit_remainder",
        ("n", "q"),
        r"$\sum_{j\ne i}\rho_j(\phi_j^\top\Delta_i)\,\phi_j^\top H_{-i}^{-1}\phi_*$, $\Delta_i$ the refit",
        None,
        SIGNED,
    ),
    Letter(G_j, "gram_j", ("j", "n"), r"$G_{ij} = \phi_i^\top H^{-1}\phi_j$", _gram),
    Letter(d_j, "curvature_j", ("j",), r"$d_j$", lambda lin: lin.curvature),
    Letter(c_Ij, "cross_unit_j", ("j", "q"), r"$\phi_j^\top H_I^{-1}\phi_*$", lambda lin: unit_curvature(lin).cross),
    Letter(y, "target", ("n",), "target", None, SHARE),
    Letter(f, "output", ("n",), "output of the model", None, (-4.0, 4.0)),
    Letter(delta, "width", (), "width of the pseudo-Huber loss"),
    Letter(tau, "removed_weight", (), r"change of one point's weight; $\tau = -1$ removes it", None, SIGNED),
    Letter(copies, "copies", (), "copies of every training point"),
    Letter(a_w, "output_weight", (), "output weight of a hidden unit", None, SIGNED),
    Letter(w_in, "input_weight", (), "weight of one input in a hidden unit", None, SIGNED),
    Letter(b_w, "bias", (), "bias of a hidden unit", None, SIGNED),
    Letter(x, "input", (), "one input coordinate", None, SIGNED),
    Letter(z, "preactivation", (), r"$w^\top x + b$ of a hidden unit", None, SIGNED),
    Letter(mu, "projected_ridge", (), "ridge inside the projected kernel"),
    Letter(gamma, "implicit_ridge", (), r"$\mu = \gamma(1 - \mathrm{df}(\gamma)/k)$"),
    Letter(df, "degrees_of_freedom", (), r"$\operatorname{tr} SR$, $R = (S + \gamma I)^{-1}$"),
    Letter(df2, "degrees_of_freedom_2", (), r"$\operatorname{tr} SRSR$"),
    Letter(eta, "trace_inverse_hessian", (), r"limit of $\operatorname{tr} H^{-1}$ (state evolution)"),
    Letter(e2, "trace_kernel", (), r"limit of $\operatorname{tr} R$"),
    Letter(q11, "overlap_exact", (), "second moment of the true kernel"),
    Letter(q12, "overlap_cross", (), "cross moment of the two kernels"),
    Letter(q22, "overlap_kernel", (), "second moment of the mean projected kernel"),
    Letter(v_J, "overlap_ensemble", (), "second moment of the mean over $J$ projections of the kernel"),
    Letter(theta, "parameter", ("p",), "one coordinate of the parameters", None, SIGNED),
    Letter(m, "first_moment", ("p",), "first moment of AdamW before the step", None, SIGNED),
    Letter(v_t, "second_moment", ("p",), "second moment of AdamW before the step"),
    Letter(g, "gradient", ("p",), "batch gradient at the step", None, SIGNED),
    Letter(xi, "written_in", ("p",), "what one sample adds to the batch gradient", None, SIGNED),
    Letter(lr, "learning_rate", (), "learning rate of the step", None, (0.001, 0.1)),
    Letter(decay, "weight_decay", (), "decoupled weight decay", None, (0.001, 0.1)),
    Letter(beta1, "beta1", (), "decay of the first moment", None, SHARE),
    Letter(beta2, "beta2", (), "decay of the second moment", None, SHARE),
    Letter(eps, "epsilon", (), "AdamW's $\\epsilon$, outside the root", None, (0.001, 0.1)),
    Letter(t, "count", (), "number of updates after the step", None, (1.0, 9.0)),
)


def numeric(expression: sp.Expr) -> Callable[..., Array]:
    """The numpy function of an expression, with the code names of its letters as keyword arguments."""
    return _numeric(sp.sympify(expression))


@cache
def _numeric(expression: sp.Expr) -> Callable[..., Array]:
    letters = letters_of(expression)
    renamed = {
        letter.symbol: sp.IndexedBase(letter.name) if letter.shape[:1] == ("j",) else sp.Symbol(letter.name)
        for letter in letters
    }
    return sp.lambdify(list(renamed.values()), expression.xreplace(renamed), NUMPY, cse=True)


def letters_of(expression: sp.Expr) -> list[Letter]:
    """The letters that an expression uses, in the order of the table."""
    labels = {base.label for base in expression.atoms(sp.IndexedBase)}
    free = {s for s in expression.free_symbols - labels if isinstance(s, sp.Symbol)}
    symbols = free | expression.atoms(sp.IndexedBase)
    unknown = symbols - LETTERS.keys()
    if unknown:
        raise ValueError(f"{sorted(map(str, unknown))} are not letters of the notation table; see LETTERS")
    return [letter for symbol, letter in LETTERS.items() if symbol in symbols]


def evaluate(expression: sp.Expr, lin: Linearization, **given: ArrayLike) -> Array:
    """An expression in the letters of the table, evaluated on a linearisation: an array (n, q).

    Letters that a linearisation does not hold (the projected kernel `cross_projected`, say) are given by code name.
    """
    expression = sp.sympify(expression)
    values = {}
    for letter in letters_of(expression):
        if letter.name in given:
            value = given[letter.name]
        elif letter.read is not None:
            value = letter.read(lin)
        else:
            raise ValueError(f"{letter.symbol} cannot be read off a linearisation: pass {letter.name}=…")
        values[letter.name] = letter.as_columns(value) if letter.shape else value
    shape = (lin.features.shape[0], lin.queries.shape[0])
    return np.array(np.broadcast_to(numeric(expression)(**values), shape), float)


def verify(
    left: sp.Expr,
    right: sp.Expr,
    *,
    domains: Mapping[sp.Symbol, tuple[float, float]] | None = None,
    points: int = 6,
    digits: int = 50,
    rng: Generator,
) -> bool:
    """True if two expressions (or matrices of them) agree at random points, to 4/5 of `digits` digits.

    Letters are drawn from their domain in the table or in `domains`, other symbols from (0.2, 2). Agreement at
    random points proves an identity of analytic expressions with probability one, up to rounding.
    """
    left, right = (sp.Matrix([sp.sympify(side)]) for side in (left, right))
    if left.shape != right.shape:
        raise ValueError(f"cannot compare an expression of shape {left.shape} with one of shape {right.shape}")
    symbols = sorted(left.free_symbols | right.free_symbols, key=str)
    known = {symbol: letter.domain for symbol, letter in LETTERS.items()} | dict(domains or {})
    bounds = [known.get(symbol, (0.2, 2.0)) for symbol in symbols]
    functions = [sp.lambdify(symbols, list(side), MPMATH) for side in (left, right)]
    with mpmath.workdps(digits):
        tolerance = mpmath.mpf(10) ** (-0.8 * digits)
        drawn = ([mpmath.mpf(float(rng.uniform(*bound))) for bound in bounds] for _ in range(points))
        pairs = (pair for at in drawn for pair in zip(*(function(*at) for function in functions), strict=True))
        return all(abs(one - two) <= tolerance * max(1, abs(one), abs(two)) for one, two in pairs)
