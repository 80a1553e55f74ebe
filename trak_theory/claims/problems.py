"""Small random problems on which claims are checked. All are well conditioned: rounding must not blur an identity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from trak_theory.glm.model import GLM, Fit
from trak_theory.linearization import Linearization
from trak_theory.loo.exact import LeaveOneOut, leave_one_out
from trak_theory.losses import Loss, as_loss

QUERIES = 6


@dataclass(frozen=True, eq=False)
class Case:
    """A fitted model with queries (q, p)."""

    fit: Fit
    queries: Array

    @property
    def lin(self) -> Linearization:
        return self.fit.linearize(self.queries)

    def exact(self) -> LeaveOneOut:
        return leave_one_out(self.fit, self.queries, tol=1e-12)


def draw_targets(loss: Loss, signal: Array, rng: Generator) -> Array:
    """Targets from the loss's own model, given the linear outputs."""
    if loss.name == "logistic":
        return (rng.random(signal.size) < 1 / (1 + np.exp(-signal))).astype(float)
    if loss.name == "poisson":
        return rng.poisson(np.exp(signal)).astype(float)
    return signal + rng.standard_normal(signal.size)


def draw_glm(loss: str, *, n: int, p: int, ridge: float, rng: Generator) -> tuple[Array, Array, Array]:
    """Features (n, p) with rows of length about 1, targets (n,), queries (q, p)."""
    rows = rng.standard_normal((n + QUERIES, p)) / np.sqrt(p)
    targets = draw_targets(as_loss(loss), 0.75 * rows[:n] @ rng.standard_normal(p), rng)
    return rows[:n], targets, rows[n:]


def small_glm(loss: str) -> Callable[[Generator], Case]:
    """The domain of one small model with this loss, n = 40, p = 6, ridge 1/2."""

    def domain(rng: Generator) -> Case:
        features, targets, queries = draw_glm(loss, n=40, p=6, ridge=0.5, rng=rng)
        return Case(GLM(features, targets, loss=loss, ridge=0.5).fit(), queries)

    domain.__doc__ = f"{loss} loss, n = 40, p = 6, ridge 1/2, Gaussian rows"
    return domain


def replicated(loss: str, copies: int, data: tuple[Array, Array, Array], *, ridge: float) -> Case:
    """Every point `copies` times and the ridge as many times. The last n rows are one copy of each point.

    Weights m − 1 and 1 on two copies of the data stand for m copies: the rows do not grow with m.
    """
    features, targets, queries = data
    n = targets.size
    weights = np.r_[np.full(n, copies - 1.0), np.ones(n)]
    glm = GLM(np.vstack([features] * 2), np.r_[targets, targets], loss=loss, ridge=copies * ridge, weights=weights)
    return Case(glm.fit(), queries)
