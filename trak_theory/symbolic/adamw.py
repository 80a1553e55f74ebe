"""AdamW, coordinate by coordinate: the update, its Jacobian (the matrices D and S) and what a finite push adds.

Everything in AdamW but the gradient is elementwise, so that one coordinate is the whole map. m, v, θ are the state
before the step, t the number of updates after it.
"""

from __future__ import annotations

from functools import cache

import sympy as sp

from trak_theory.symbolic.derivation import Derivation, Step, equation
from trak_theory.symbolic.notation import beta1, beta2, decay, eps, g, lr, m, t, theta, v_t, xi

STATE = {"theta": theta, "m": m, "v": v_t}
FIRST_CORRECTION, SECOND_CORRECTION = 1 - beta1**t, 1 - beta2**t


@cache
def update() -> dict[str, sp.Expr]:
    """The new state (θ′, m′, v′), from the state, the batch gradient g and the settings."""
    first = beta1 * m + (1 - beta1) * g
    second = beta2 * v_t + (1 - beta2) * g**2
    scaled = (first / FIRST_CORRECTION) / (sp.sqrt(second / SECOND_CORRECTION) + eps)
    return {"theta": (1 - lr * decay) * theta - lr * scaled, "m": first, "v": second}


@cache
def scaling() -> dict[str, sp.Expr]:
    """D = 1/(√v̂ + ε) and S = m̂/(2√v̂ (√v̂ + ε)²) with m̂, v̂ the corrected moments after the step (S = 0 at v̂ = 0)."""
    root = sp.sqrt(update()["v"] / SECOND_CORRECTION)
    return {"D": 1 / (root + eps), "S": update()["m"] / FIRST_CORRECTION / (2 * root * (root + eps) ** 2)}


@cache
def jacobian() -> dict[tuple[str, str], sp.Expr]:
    """∂(new state)/∂(state, gradient), by differentiation of the update."""
    return {
        (new, old): sp.diff(value, symbol)
        for new, value in update().items()
        for old, symbol in {**STATE, "g": g}.items()
    }


@cache
def tangent() -> dict[tuple[str, str], sp.Expr]:
    """The tangent map in terms of D and S, entry by entry: what a sweep propagates."""
    D, S = scaling()["D"], scaling()["S"]

    def moved(first: sp.Expr, second: sp.Expr) -> sp.Expr:
        return -lr * (D * first / FIRST_CORRECTION - S * second / SECOND_CORRECTION)

    return {
        ("theta", "theta"): 1 - lr * decay,
        ("theta", "m"): moved(beta1, 0),
        ("theta", "v"): moved(0, beta2),
        ("theta", "g"): moved(1 - beta1, 2 * (1 - beta2) * g),
        ("m", "theta"): sp.Integer(0),
        ("m", "m"): beta1,
        ("m", "v"): sp.Integer(0),
        ("m", "g"): 1 - beta1,
        ("v", "theta"): sp.Integer(0),
        ("v", "m"): sp.Integer(0),
        ("v", "v"): beta2,
        ("v", "g"): 2 * (1 - beta2) * g,
    }


@cache
def second_order_change() -> dict[str, sp.Expr]:
    """ξ²/2 · ∂²(new state)/∂g²: the second-order term when one sample adds ξ to the batch gradient."""
    return {new: sp.diff(value, g, 2) * xi**2 / 2 for new, value in update().items()}


@cache
def second_order_change_closed_form() -> dict[str, sp.Expr]:
    """The same in D and S: θ gains the cross term of δm and δv, the curvature of D in v̂, and δv's own second order."""
    D, S = scaling()["D"], scaling()["S"]
    root = sp.sqrt(update()["v"] / SECOND_CORRECTION)
    first = (1 - beta1) * xi / FIRST_CORRECTION  # δm̂
    second = 2 * (1 - beta2) * g * xi / SECOND_CORRECTION  # first-order δv̂
    square = (1 - beta2) * xi**2 / SECOND_CORRECTION  # second-order δv̂
    slope = -(D**2) / (2 * root)  # ∂D/∂v̂
    curvature = S * (1 / (2 * root**2) + D / root)  # ∂²(m̂D)/∂v̂² = −∂S/∂v̂ at fixed m̂
    change = slope * first * second + curvature * second**2 / 2 - S * square
    return {"theta": -lr * change, "m": sp.Integer(0), "v": (1 - beta2) * xi**2}


@cache
def derivation() -> Derivation:
    hat_m, hat_v = r"\hat m = m'/(1-\beta_1^t)", r"\hat v = v'/(1-\beta_2^t)"
    return Derivation(
        title="AdamW: update, tangent and second-order change of the state",
        statement=(
            r"With $D = 1/(\sqrt{\hat v} + \epsilon)$ and $S = \hat m/(2\sqrt{\hat v}(\sqrt{\hat v} + "
            r"\epsilon)^2)$ the tangent of one step is $\dot\theta' = "
            r"(1-\eta_t\lambda_{\mathrm{wd}})\dot\theta - \eta_t[D\dot m'/(1-\beta_1^t) - S\dot "
            r"v'/(1-\beta_2^t)]$, $\dot m' = \beta_1\dot m + (1-\beta_1)\dot g$, $\dot v' = \beta_2\dot v + "
            r"2(1-\beta_2)g\,\dot g$."
        ),
        assumptions=(
            r"$\hat v > 0$: where $\hat v = 0$ the map has no derivative and $S$ is set to 0.",
            r"Decoupled weight decay, $\epsilon$ outside the root, no clipping and no maximum of past "
            r"moments.",
        ),
        steps=(
            Step("The first moment:", equation("m'", update()["m"])),
            Step("the second moment:", equation("v'", update()["v"])),
            Step("corrected:", rf"{hat_m},\quad {hat_v}"),
            Step("The parameter:", equation(r"\theta'", update()["theta"])),
            Step(
                "Differentiated in the moments,",
                r"\partial\theta'/\partial m' = -\eta_t D/(1-\beta_1^t),\quad \partial\theta'/\partial v' = "
                r"\eta_t S/(1-\beta_2^t)",
            ),
            Step(
                "and in the gradient, through both moments:",
                r"\partial\theta'/\partial g = -\eta_t\left[\frac{(1-\beta_1)D}{1-\beta_1^t} - "
                r"\frac{2(1-\beta_2)\,g\,S}{1-\beta_2^t}\right]",
            ),
            Step(
                r"A sample that adds $\xi$ to the gradient moves $v'$ by $(1-\beta_2)(2g\xi + \xi^2)$; the "
                r"second-order part of $\theta'$ is, with $\delta\hat m = (1-\beta_1)\xi/(1-\beta_1^t)$, "
                r"$\delta_1\hat v = 2(1-\beta_2)g\xi/(1-\beta_2^t)$, $\delta_2\hat v = "
                r"(1-\beta_2)\xi^2/(1-\beta_2^t)$,",
                r"-\eta_t\left[-\frac{D^2}{2\sqrt{\hat v}}\,\delta\hat m\,\delta_1\hat v + "
                r"\frac{S}{2}\left(\frac{1}{2\hat v} + \frac{D}{\sqrt{\hat v}}\right)(\delta_1\hat v)^2 - "
                r"S\,\delta_2\hat v\right]",
            ),
        ),
        twins=("trak_theory.trajectory.optimizer.steps.AdamStep",),
        expressions={
            **{f"update {name}": value for name, value in update().items()},
            **scaling(),
            **{f"second-order change of {name}": value for name, value in second_order_change_closed_form().items()},
        },
    )
