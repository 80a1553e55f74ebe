"""Identities of the chain from exact leave-one-out to the projected kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import sympy as sp
from numpy import ndarray as Array
from numpy.random import Generator

from trak_theory.attribution import influence, newton, trak_kernel
from trak_theory.claims.claim import Claim, identity
from trak_theory.claims.problems import Case, small_glm
from trak_theory.linearization import project, unit_curvature
from trak_theory.loo.series import infinitesimal_jackknife
from trak_theory.numerics.whitening import whiten
from trak_theory.projection.matrices import projection_matrix
from trak_theory.symbolic.chain import GAPS, RUNGS
from trak_theory.symbolic.notation import evaluate, h

LS = small_glm("squared")
LOGISTIC = small_glm("logistic")


def refit_remainder(case: Case) -> Array:
    """Σ_{j≠i} ρ_j(φ_jᵀΔ_i) φ_jᵀH_{−i}⁻¹φ*, the letter e, from the exact refits; (n, q)."""
    fit, lin = case.fit, case.lin
    change = fit.glm.features @ (case.exact().coef - fit.coef).T  # (j, i)
    remainder = fit.glm.loss.taylor_remainder(fit.glm.targets[:, None], fit.outputs[:, None], fit.glm.weights[:, None])(
        change
    )
    np.fill_diagonal(remainder, 0.0)
    rows = whiten(fit.minimum.factor, fit.space.features)
    pulled = remainder.T @ lin.cross  # Σ_j ρ_j φ_jᵀH⁻¹φ*
    along = remainder.T @ rows @ rows.T
    own = np.diag(along) * fit.curvature / (1 - lin.leverage)
    return pulled + own[:, None] * lin.cross


@dataclass(frozen=True, eq=False)
class Projected(Case):
    """A case with a projection (p, k)."""

    projection: Array

    def cross_projected(self) -> Array:
        return project(trak_kernel(self.lin), self.projection).cross


def _projected(rng: Generator) -> Projected:
    """logistic loss, n = 40, p = 6, ridge 1/2, Gaussian rows, k = 4"""
    case = LOGISTIC(rng)
    return Projected(case.fit, case.queries, np.asarray(projection_matrix(6, 4, rng=rng)))


def _gap(name: str) -> Callable[[Case], Array]:
    return lambda case: evaluate(GAPS[name], case.lin)


def _jackknife_claim(order: int) -> Claim:
    def relative_error(case: Case) -> Array:
        exact = case.exact().influence
        return (exact - infinitesimal_jackknife(case.fit, case.queries, order=order)) / exact

    return Claim(
        name=f"IJ-{order} of least squares errs by h^{order}",
        kind="identity",
        statement=rf"(I - I^{{({order})}})/I = h^{order}",
        source="ours",
        predict=lambda case: evaluate(h**order, case.lin),
        measure=relative_error,
        domain=LS,
    )


def _telescoped(case: Projected) -> Array:
    given = {"refit_remainder": refit_remainder(case), "cross_projected": case.cross_projected()}
    return np.sum([evaluate(gap, case.lin, **given) for gap in GAPS.values()], axis=0)


CLAIMS = [
    Claim(
        name="newton is -rc/(1-h)",
        kind="identity",
        statement=sp.latex(RUNGS["newton"]),
        source="Rad & Maleki 2020",
        predict=lambda case: evaluate(RUNGS["newton"], case.lin),
        measure=lambda case: newton(case.lin),
        domain=LOGISTIC,
    ),
    identity(
        "influence errs by the leverage",
        r"(I_{\mathrm{newton}} - I_{\mathrm{influence}})/I_{\mathrm{newton}} = h",
        lambda case: evaluate(h, case.lin),
        lambda case: 1 - influence(case.lin) / newton(case.lin),
        LOGISTIC,
    ),
    Claim(
        name="exact influence of least squares",
        kind="identity",
        statement=sp.latex(RUNGS["newton"]),
        source="Sherman & Morrison 1950",
        predict=lambda case: evaluate(RUNGS["newton"], case.lin),
        measure=lambda case: case.exact().influence,
        domain=LS,
    ),
    *map(_jackknife_claim, (1, 2, 3)),
    identity(
        "exact minus newton is the refit remainder",
        r"I - I_{\mathrm{newton}} = \sum_{j\ne i}\rho_j(\phi_j^\top\Delta)\,\phi_j^\top H_{-i}^{-1}\phi_*",
        refit_remainder,
        lambda case: case.exact().influence - newton(case.lin),
        LOGISTIC,
    ),
    identity(
        "influence minus unit curvature",
        sp.latex(GAPS["influence - unit curvature"]),
        _gap("influence - unit curvature"),
        lambda case: influence(case.lin) - influence(unit_curvature(case.lin)),
        LOGISTIC,
    ),
    identity(
        "unit curvature minus no ridge",
        sp.latex(GAPS["unit curvature - no ridge"]),
        _gap("unit curvature - no ridge"),
        lambda case: influence(unit_curvature(case.lin)) - influence(trak_kernel(case.lin)),
        LOGISTIC,
    ),
    identity(
        "the gaps of the chain telescope",
        r"\sum \mathrm{gaps} = I + r\,c_P",
        _telescoped,
        lambda case: case.exact().influence + case.lin.residual[:, None] * case.cross_projected(),
        _projected,
    ),
]
