"""Limits: what simulations of growing size or number converge to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import sympy as sp
from numpy import ndarray as Array
from numpy.random import Generator

from trak_theory.attribution import newton, trak
from trak_theory.claims.claim import limit
from trak_theory.glm.model import GLM
from trak_theory.linearization import Linearization, project
from trak_theory.numerics.agreement import Agreement, agreement
from trak_theory.numerics.estimate import Estimate, mean
from trak_theory.projection.matrices import projection_matrix
from trak_theory.symbolic.isotropic import slope, squared_correlation
from trak_theory.symbolic.notation import k, n, p
from trak_theory.symbolic.projection import eigenvalues, isotropic_second_moments, plane_mean, plane_square_moments

DRAWS = 3000
DATA_SETS = 10
POINTS, PARAMETERS, DIMENSION = 600, 200, 120
SQUARE_P, SQUARE_K = 5, 2
PLANE = (4.0, 0.5)  # eigenvalues of S


def projected_kernels(spectrum: Array, dimension: int, rng: Generator) -> Array:
    """Draws of K = P(PᵀSP)⁻¹Pᵀ for S = diag(spectrum), (draws, p, p), through the code of `project`."""
    size = spectrum.size
    features = np.diag(np.sqrt(spectrum))
    lin = Linearization(features, np.zeros(size), np.ones(size), 0.0, np.eye(size))
    draws = (project(lin, projection_matrix(size, dimension, rng=child)).cross for child in rng.spawn(DRAWS))
    return np.array([cross / np.sqrt(spectrum)[:, None] for cross in draws])


def _isotropic_kernels(rng: Generator) -> Array:
    """Gaussian projections of S = I, p = 5, k = 2, no ridge; 3000 draws"""
    return projected_kernels(np.ones(SQUARE_P), SQUARE_K, rng)


def _plane_kernels(rng: Generator) -> Array:
    """Gaussian projections of S = diag(4, 1/2), p = 2, k = 1, no ridge; 3000 draws"""
    return projected_kernels(np.array(PLANE), 1, rng)


def _inserted(expression: sp.Expr, values: Mapping[sp.Symbol, float]) -> Callable[[object], float]:
    return lambda _: float(expression.subs(values))


_SQUARE = {p: SQUARE_P, k: SQUARE_K}
_IN_PLANE = dict(zip(eigenvalues(2), PLANE, strict=True))
_RANK = {n: POINTS, p: PARAMETERS, k: DIMENSION}


@dataclass(frozen=True)
class _Moment:
    """Mean over draws of a product of entries of K."""

    entries: tuple[tuple[int, int], ...]

    def __call__(self, kernels: Array) -> Estimate:
        return mean(np.prod([kernels[:, row, column] for row, column in self.entries], axis=0))


def _isotropic_data(rng: Generator) -> list[Agreement]:
    """least squares, Gaussian rows, n = 600, p = 200, k = 120, no ridges, 40 queries; 10 data sets"""
    agreements = []
    for child in rng.spawn(DATA_SETS):
        rows = child.standard_normal((POINTS + 40, PARAMETERS))
        targets = rows @ child.standard_normal(PARAMETERS) + child.standard_normal(POINTS + 40)
        lin = GLM(rows[:POINTS], targets[:POINTS]).fit().linearize(rows[POINTS:])
        agreements.append(agreement(newton(lin), trak(lin, k=DIMENSION, rng=child)))
    return agreements


def _mean_of(measure: str) -> Callable[[list[Agreement]], Estimate]:
    return lambda agreements: mean([getattr(one, measure) for one in agreements])


CLAIMS = [
    limit(
        "mean projected kernel, isotropic",
        r"\mathrm{E}K_{11} = k/p",
        _inserted(k / p, _SQUARE),
        _Moment(((0, 0),)),
        _isotropic_kernels,
    ),
    limit(
        "variance of the projected kernel, isotropic",
        rf"\mathrm{{E}}K_{{12}}^2 = {sp.latex(isotropic_second_moments()[1])}",
        _inserted(isotropic_second_moments()[1], _SQUARE),
        _Moment(((0, 1), (0, 1))),
        _isotropic_kernels,
    ),
    limit(
        "mean projected kernel in the plane",
        rf"\mathrm{{E}}K_{{11}} = {sp.latex(plane_mean()[1])}",
        _inserted(plane_mean()[1], _IN_PLANE),
        _Moment(((0, 0),)),
        _plane_kernels,
    ),
    limit(
        "second moment of the projected kernel in the plane",
        rf"\mathrm{{E}}K_{{12}}^2 = {sp.latex(sp.factor(plane_square_moments()[1]))}",
        _inserted(plane_square_moments()[1], _IN_PLANE),
        _Moment(((0, 1), (0, 1))),
        _plane_kernels,
    ),
    limit(
        "Pearson correlation, isotropic least squares",
        r"\rho^2 = \frac{k/(n-k)}{p/(n-p)}",
        _inserted(sp.sqrt(squared_correlation()), _RANK),
        _mean_of("pearson"),
        _isotropic_data,
    ),
    limit(
        "Kendall correlation, isotropic least squares",
        r"\tau = \frac{2}{\pi}\arcsin\rho",
        _inserted(2 / sp.pi * sp.asin(sp.sqrt(squared_correlation())), _RANK),
        _mean_of("kendall"),
        _isotropic_data,
    ),
    limit(
        "slope on the exact influence, isotropic least squares",
        r"\rho^2(1 - p/n)",
        _inserted(slope(), _RANK),
        _mean_of("slope"),
        _isotropic_data,
    ),
]
