"""The derivatives of every loss to fourth order, each in a form that is stable in floating point."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import sympy as sp
from numpy import ndarray as Array
from sympy.codegen.cfunctions import log1p

from trak_theory.symbolic.derivation import Derivation, Step, equation, lines
from trak_theory.symbolic.notation import delta, expit, f, letters_of, numeric, y

ORDERS = ("value", "residual", "curvature", "third", "fourth")
PROPER_NAMES = {"poisson": "Poisson", "huber": "pseudo-Huber"}


@dataclass(frozen=True)
class LossFormula:
    """A loss as it is defined, and (ℓ, ℓ′, ℓ″, ℓ‴, ℓ⁗) in stable form."""

    name: str
    definition: sp.Expr
    stable: tuple[sp.Expr, ...]

    def derivative(self, order: int) -> sp.Expr:
        """∂^order ℓ/∂f^order as sympy differentiates the definition: correct, and unstable."""
        return sp.diff(self.definition, f, order)

    def self_concordance(self) -> sp.Expr:
        """M₃ = sup_f |ℓ‴|/ℓ″, the largest of the limits and the stationary values; it does not depend on y."""
        ratio = sp.simplify(self.stable[3] / self.stable[2]).subs(y, 0)
        stationary = [ratio.subs(f, point) for point in sp.solve(sp.diff(ratio, f), f)]
        ends = [sp.limit(ratio, f, end) for end in (-sp.oo, sp.oo)]
        return sp.Max(*(sp.Abs(value) for value in (*ends, *stationary)))


def _squared() -> LossFormula:
    definition = (y - f) ** 2 / 2
    return LossFormula("squared", definition, (definition, f - y, sp.Integer(1), sp.Integer(0), sp.Integer(0)))


def _logistic() -> LossFormula:
    variance = expit(f) * expit(-f)
    stable = (
        sp.Max(f, 0) + log1p(sp.exp(-sp.Abs(f))) - y * f,
        (1 - y) * expit(f) - y * expit(-f),
        variance,
        -variance * sp.tanh(f / 2),
        variance * (1 - 6 * variance),
    )
    return LossFormula("logistic", sp.log(1 + sp.exp(f)) - y * f, stable)


def _poisson() -> LossFormula:
    growth = sp.exp(f)
    definition = growth - y * f + sp.loggamma(y + 1)
    return LossFormula("poisson", definition, (definition, growth - y, growth, growth, growth))


def _huber() -> LossFormula:
    u = (f - y) / delta
    stretch = sp.sqrt(1 + u**2)
    stable = (
        (f - y) ** 2 / (1 + stretch),
        (f - y) / stretch,
        stretch**-3,
        -3 * u / delta * stretch**-5,
        3 * (4 * u**2 - 1) / delta**2 * stretch**-7,
    )
    return LossFormula("huber", delta**2 * (stretch - 1), stable)


@cache
def formulas() -> dict[str, LossFormula]:
    """Loss name → its formulas."""
    return {formula.name: formula for formula in (_squared(), _logistic(), _poisson(), _huber())}


def numeric_derivative(name: str, order: int, *, target: Array, output: Array, width: float = 1.0) -> Array:
    """∂^order ℓ/∂f^order, order 1 to 4, from its stable form; `width` is δ, for the pseudo-Huber loss."""
    expression = formulas()[name].stable[order]
    given = {"target": target, "output": output, "width": width}
    value = numeric(expression)(**{letter.name: given[letter.name] for letter in letters_of(expression)})
    return np.broadcast_to(value, np.broadcast(target, output).shape)


@cache
def derivation() -> Derivation:
    steps: list[Step] = []
    for formula in formulas().values():
        primes = (r"\ell" + "'" * order for order in range(1, len(ORDERS)))
        derivatives = (equation(left, form) for left, form in zip(primes, formula.stable[1:], strict=True))
        steps += [
            Step(
                f"The {PROPER_NAMES.get(formula.name, formula.name)} loss:", equation(r"\ell(y, f)", formula.definition)
            ),
            Step("Differentiated, in a form that neither overflows nor cancels:", lines(derivatives)),
            Step("Its self-concordance:", equation(r"\sup_f |\ell'''|/\ell''", formula.self_concordance())),
        ]
    return Derivation(
        title="Derivatives of the losses",
        statement=r"The residual $\ell'$, the curvature $\ell''$ and the third and fourth derivatives of every loss.",
        assumptions=(
            r"$y \in \{0, 1\}$ for the logistic loss, $y \ge 0$ for the Poisson loss, $\delta > 0$ for "
            r"pseudo-Huber.",
            r"$\sigma(f) = 1/(1 + e^{-f})$, so that $1 - \sigma(f) = \sigma(-f)$.",
        ),
        steps=tuple(steps),
        twins=tuple(f"trak_theory.losses.{name}" for name in ("Squared", "Logistic", "Poisson", "PseudoHuber")),
        expressions={
            f"{formula.name} {name}": formula.stable[order]
            for formula in formulas().values()
            for order, name in enumerate(ORDERS)
        },
    )
