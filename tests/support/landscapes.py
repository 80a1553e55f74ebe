"""The objective without a point around its minimiser, in coordinates where the condition of the features is gone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from numpy import ndarray as Array
from scipy.linalg import solve_triangular

from support.hard_problems import without
from trak_theory.glm.model import Fit
from trak_theory.numerics.whitening import hessian_factor, whiten


@dataclass
class Landscape:
    """The objective without a point, in coordinates v around its minimiser that whiten its Hessian at θ̂."""

    fit: Fit
    rows: Array  # a_j of the points that stay
    ridge: Array  # R⁻ᵀΛR⁻¹
    outputs: Array  # at the minimiser
    reference: Array  # outputs at θ̂
    weights: Array
    targets: Array

    @property
    def m3(self):
        return self.fit.glm.loss.self_concordance

    @property
    def dual_norm(self):
        return np.linalg.norm(self.rows, axis=1).max()

    def gradient(self, v):
        """∇F(v), as a difference from the minimiser, where it is 0."""
        loss = self.fit.glm.loss
        moved = loss.residual(self.targets, self.outputs + self.rows @ v)
        return self.rows.T @ (self.weights * (moved - loss.residual(self.targets, self.outputs))) + self.ridge @ v

    def curvature_ratio(self, v):
        """max_j d_j(θ̂)/d_j(v), at least 1."""
        loss = self.fit.glm.loss
        there, here = (loss.curvature(self.targets, f) for f in (self.reference, self.outputs + self.rows @ v))
        with np.errstate(divide="ignore", invalid="ignore"):  # a curvature that underflows there has an infinite ratio
            return max(1.0, np.max(np.where(here > 0, there / here, np.inf)))

    def change(self, v):
        """max_j |φ_jᵀ(β − θ̂)|."""
        return np.abs(self.outputs + self.rows @ v - self.reference).max()


def landscape(fit, i):
    """Of the objective without point i."""
    glm, left = fit.glm, without(fit, i)
    assume(left is not None)
    stay = (np.arange(len(glm.targets)) != i) & (glm.weights > 0)
    features, weights, targets = glm.features[stay], glm.weights[stay], glm.targets[stay]
    reference = features @ fit.coef
    factor = hessian_factor(features, weights * glm.loss.curvature(targets, reference), glm.ridge)
    inverse = solve_triangular(factor, np.diag(np.sqrt(glm.ridge)), trans="T")
    return Landscape(
        fit, whiten(factor, features), inverse @ inverse.T, features @ left.coef, reference, weights, targets
    )


def displacement(rng, size, m):
    direction = rng.standard_normal(m)
    return 10.0**size * direction / np.linalg.norm(direction)


def newton_points(fit):
    """Brute force at all Newton points: decrement ‖∇F_{−i}‖_{M⁻¹}, largest change of another output, ‖u_i‖; (n,)."""
    lin, glm = fit.linearize(np.zeros((1, len(fit.coef)))), fit.glm
    rows, remaining = lin.whitened[0], 1 - lin.leverage
    points = (lin.residual / remaining)[:, None] * rows
    change = points @ rows.T
    np.fill_diagonal(change, 0.0)
    largest = np.abs(change).max(1)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        pull = glm.loss.taylor_remainder(glm.targets, fit.outputs, glm.weights)(change) @ rows
        decrement = np.sqrt((pull**2).sum(1) + lin.curvature / remaining * (pull * rows).sum(1) ** 2)
    return decrement, largest, np.linalg.norm(points, axis=1)


PLACES = tuple(st.floats(-4, 4) for _ in range(3))  # minimiser, point and reference of a `tilted` loss


def tilted(loss, minimiser, point, reference):
    """F(θ) = ℓ(θ) − ℓ′(minimiser) θ in one dimension, in norms of the curvature at `reference`.

    Distance of the point from the minimiser, decrement, dual norm, curvature ratio, and distance after one chord step.
    """
    there, here = loss.curvature(0.0, np.array([reference, point]))
    gradient = np.diff(loss.residual(0.0, np.array([minimiser, point])))[0]
    distance, after = (np.sqrt(there) * abs(x - minimiser) for x in (point, point - gradient / there))
    return distance, abs(gradient) / np.sqrt(there), 1 / np.sqrt(there), max(1.0, there / here), after
