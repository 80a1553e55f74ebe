"""Certified bounds: inequalities that must hold on every input, checked on small random problems."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from trak_theory.attribution import influence, newton
from trak_theory.claims.claim import Claim
from trak_theory.claims.problems import Case, small_glm
from trak_theory.linearization import project
from trak_theory.loo.bounds import (
    newton_certificate,
    newton_decrement_bound,
    strong_convexity_radius,
    two_layer_curvature,
)
from trak_theory.loo.certified_order import certified_order
from trak_theory.loo.intervals import Interval, newton_interval
from trak_theory.loo.rung_bounds import (
    influence_interval,
    linearisation_interval,
    projection_interval,
    unit_curvature_interval,
)
from trak_theory.numerics.agreement import kendall

LOGISTIC, POISSON = small_glm("logistic"), small_glm("poisson")
WIDTH = 4
TANH = {"sup_first": 1.0, "sup_second": 4 / 3**1.5}


@dataclass(frozen=True, eq=False)
class Projected(Case):
    """A case with a projection (p, k)."""

    projection: Array


def _sketched(rng: Generator) -> Projected:
    """logistic loss, n = 40, p = 6, ridge 1/2, Gaussian rows and projection, k = 400"""
    case = LOGISTIC(rng)
    return Projected(case.fit, case.queries, rng.standard_normal((6, 400)) / 20)


@dataclass(frozen=True, eq=False)
class Step:
    """A tanh network f = aᵀ tanh(Wx + b) + c at `inputs`, and a step of all its weights."""

    inputs: Array
    weights: list[Array]
    change: list[Array]

    @property
    def distance(self) -> float:
        return float(np.sqrt(sum(np.sum(part**2) for part in self.change)))

    def output(self, scale: float) -> Array:
        a, w, b, c = (part + scale * change for part, change in zip(self.weights, self.change, strict=True))
        return np.tanh(self.inputs @ w.T + b) @ a + c

    def linearised(self) -> Array:
        (a, w, b, _), (da, dw, db, dc) = self.weights, self.change
        hidden = np.tanh(self.inputs @ w.T + b)
        pushed = (self.inputs @ dw.T + db) * (1 - hidden**2)
        return self.output(0.0) + hidden @ da + pushed @ a + dc

    def interval(self) -> Interval:
        curvature = two_layer_curvature(self.inputs, self.weights[0], distance=self.distance, **TANH)
        return linearisation_interval(self.linearised(), curvature, self.distance)


def _network(rng: Generator) -> Step:
    """tanh networks of four hidden units on three inputs, at twenty points, moved by 0.3"""
    shapes = [(WIDTH,), (WIDTH, 3), (WIDTH,), ()]
    weights, change = ([np.asarray(rng.standard_normal(shape)) for shape in shapes] for _ in range(2))
    length = np.sqrt(sum(np.sum(part**2) for part in change))
    return Step(rng.standard_normal((20, 3)), weights, [0.3 * part / length for part in change])


def _leave_one_out(chord_steps: int) -> Callable[[Case], Interval]:
    return lambda case: newton_interval(case.fit, case.queries, chord_steps=chord_steps)


def _a_priori_radius(case: Case) -> Array:
    """Of Newton's influence, from leverages alone."""
    lin, m3 = case.lin, case.fit.glm.loss.self_concordance or 0.0
    rows, queries = lin.whitened
    square, remaining = np.sum(rows**2, axis=1), 1 - lin.leverage
    decrement, change = newton_decrement_bound(lin.residual, lin.leverage, square, m3)
    distance = newton_certificate(decrement, np.sqrt(square.max() / remaining), np.exp(m3 * change), m3)
    lengths = np.sqrt(np.sum(queries**2, axis=1) + (lin.curvature / remaining)[:, None] * lin.cross**2)
    return lengths * distance[:, None]


def _parameter_radius(case: Case) -> Array:
    gradients = np.abs(case.fit.residual) * np.linalg.norm(case.fit.glm.features, axis=1)
    return strong_convexity_radius(gradients, float(case.fit.glm.ridge.min()))


def _kendall_deficit(case: Case) -> float:
    exact, estimate = case.exact().influence, influence(case.lin)
    return 1 - float(np.mean([kendall(*columns) for columns in zip(exact.T, estimate.T, strict=True)]))


def _around(interval: Callable[[Any], Interval], other: Callable[[Any], Array]) -> dict[str, Callable[[Any], Array]]:
    """|other − center| ≤ radius."""
    return {
        "predict": lambda case: interval(case).radius,
        "measure": lambda case: np.abs(other(case) - interval(case).center),
    }


CLAIMS = [
    *(
        Claim(
            name=f"certified influence after {steps} chord steps, {loss}",
            kind="bound",
            statement=r"|I - \mathrm{center}| \le -\|\phi_*\|_{M^{-1}} \log(1 - M_3 c g B)/(M_3 B)",
            source="ours, after Bach 2010",
            **_around(_leave_one_out(steps), lambda case: case.exact().influence),
            domain=domain,
        )
        for loss, domain in (("logistic", LOGISTIC), ("poisson", POISSON))
        for steps in (0, 1)
    ),
    Claim(
        name="newton's error from leverages alone",
        kind="bound",
        statement=r"\|\nabla F_{-i}(\beta)\|_{M^{-1}} \le |r|\sqrt{q/(1-h)}\,(e^s - 1 - s)/s",
        source="ours",
        predict=_a_priori_radius,
        measure=lambda case: np.abs(newton(case.lin) - case.exact().influence),
        domain=LOGISTIC,
    ),
    Claim(
        name="strong convexity bounds the move of the coefficients",
        kind="bound",
        statement=r"\|\hat\theta - \hat\theta_{-i}\|_2 \le |r_i|\,\|\phi_i\|_2/\lambda",
        source="standard",
        predict=_parameter_radius,
        measure=lambda case: np.linalg.norm(case.fit.coef - case.exact().coef, axis=1),
        domain=LOGISTIC,
    ),
    Claim(
        name="newton lies within h/(1-h) of influence",
        kind="bound",
        statement=r"|I_{\mathrm{newton}} - I_{\mathrm{influence}}| \le h/(1-h)\,|I_{\mathrm{influence}}|",
        source="Sherman & Morrison 1950",
        **_around(lambda case: influence_interval(case.lin), lambda case: newton(case.lin)),
        domain=LOGISTIC,
    ),
    Claim(
        name="influence lies around unit curvature",
        kind="bound",
        statement=r"|\phi^\top(H^{-1} - \tfrac12(K_a + K_b))\phi_*| \le \tfrac12\|\phi\|_{K_a-K_b}\|\phi_*\|_{K_a-K_b}",
        source="ours",
        **_around(lambda case: unit_curvature_interval(case.lin), lambda case: influence(case.lin)),
        domain=POISSON,
    ),
    Claim(
        name="projected influence lies around influence",
        kind="bound",
        statement=r"|\phi^\top(K_P - R_\mu)\phi_*| \le \|U^\top P P^\top U - I\|\,\|\phi\|_{R_\mu}\|\phi_*\|_{R_\mu}",
        source="ours",
        **_around(
            lambda case: projection_interval(case.lin, case.projection),
            lambda case: influence(project(case.lin, case.projection)),
        ),
        domain=_sketched,
    ),
    Claim(
        name="a tanh network lies around its linearisation",
        kind="bound",
        statement=r"|f(\hat\theta+\Delta) - f - \nabla f^\top\Delta| \le \tfrac12\sup\|\nabla^2 f\|\,\|\Delta\|^2",
        source="ours",
        **_around(Step.interval, lambda step: step.output(1.0)),
        domain=_network,
    ),
    Claim(
        name="the proved order bounds Kendall's tau",
        kind="bound",
        statement=r"\tau \ge (\mathrm{concordant} - \mathrm{discordant} - \mathrm{unproved})/\tbinom n2",
        source="ours",
        predict=lambda case: 1 - certified_order(_leave_one_out(0)(case), influence(case.lin)).kendall,
        measure=_kendall_deficit,
        domain=LOGISTIC,
    ),
]
