"""Generalised linear models fitted to a certified optimum, and their linearisation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike

from trak_theory.errors import RankDeficientError
from trak_theory.glm.minimise import Minimum, Objective, minimise
from trak_theory.linearization import Linearization
from trak_theory.losses import Loss, as_loss
from trak_theory.numerics.checks import check_scale, frozen, non_negative, query_array, real_array, ridge_array
from trak_theory.numerics.whitening import RowSpace, row_space

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator
    from statsmodels.base.model import LikelihoodModelResults

    from trak_theory.trajectory.objective import GLMObjective


class GLM:
    """min_θ Σ_i w_i ℓ(y_i, f_i) + ½ Σ_j λ_j θ_j²,   f_i = o_i + φ_iᵀθ.

    features Φ (n, p); targets y (n,); loss a name (squared, logistic, poisson, huber) or a `Loss`; ridge λ one
    value or (p,), 0 for an unpenalised intercept; weights w (n,) ≥ 0, default 1; offset o (n,), the known part of
    the outputs, default 0. Sum convention: doubling every weight and the ridge leaves θ̂ unchanged.

    >>> fit = GLM([[1.0], [2.0], [3.0]], [1.0, 2.0, 2.0], loss="squared", ridge=1.0).fit()
    >>> fit.coef.round(3)
    array([0.733])
    """

    def __init__(
        self,
        features: ArrayLike,
        targets: ArrayLike,
        *,
        loss: str | Loss = "squared",
        ridge: ArrayLike = 0.0,
        weights: ArrayLike | None = None,
        offset: ArrayLike | None = None,
    ) -> None:
        self.features = frozen(real_array("features", features, 2))
        self.targets = real_array("targets", targets, 1)
        self.loss = as_loss(loss)
        n, p = self.features.shape
        self.ridge = ridge_array(ridge, p)
        given = np.ones(n) if weights is None else real_array("weights", weights, 1)
        self.weights = non_negative("weights", given)
        self.offset = np.zeros(n) if offset is None else real_array("offset", offset, 1)
        for name, array in (("targets", self.targets), ("weights", self.weights), ("offset", self.offset)):
            if array.shape != (n,):
                raise ValueError(f"{name} has {array.size} values for n = {n} rows of features")
        if n == 1:
            raise ValueError("one training point only: leaving it out leaves nothing; at least 2 are needed")
        self.loss.check(self.targets)

    @classmethod
    def from_sklearn(
        cls, estimator: BaseEstimator, X: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None
    ) -> GLM:
        """The GLM that a fitted scikit-learn estimator minimises; see `trak_theory.glm.sklearn`."""
        from trak_theory.glm.sklearn import translate

        return cls(**translate(estimator, X, y, sample_weight))

    @classmethod
    def from_statsmodels(cls, results: LikelihoodModelResults) -> GLM:
        """The GLM that statsmodels' results minimise; see `trak_theory.glm.statsmodels`."""
        from trak_theory.glm.statsmodels import check_stationary, translate

        glm = cls(**translate(results))
        check_stationary(Objective(glm.loss, glm.features, glm.targets, glm.weights, glm.ridge, glm.offset), results)
        return glm

    def fit(self, *, tol: float = 1e-10) -> Fit:
        """The minimiser, by Newton's method to the rounding floor.

        `tol` bounds what the last Newton step still moves any training output, relative to max(1, max|f|).
        Raises NoMinimiserError (separable data), RankDeficientError, ScaleError (squares overflow) or
        ConvergenceError, with the numbers.
        """
        n, p = self.features.shape
        check_scale(self.features, self.ridge)
        if p > n and not self.ridge.any():
            raise RankDeficientError(
                f"p = {p} coefficients, n = {n} points and ridge 0: no unique minimiser; add a ridge"
            )
        space = row_space(self.features, self.ridge)
        objective = Objective(self.loss, space.features, self.targets, self.weights, space.ridge, self.offset)
        return Fit(self, objective, space, minimise(objective, np.zeros(space.features.shape[1]), tol=tol))

    def objective(self) -> GLMObjective:
        """The per-sample losses w_i ℓ(y_i, φ_iᵀθ) for `trajectory.train`; no ridge: decay belongs to the optimiser."""
        from trak_theory.trajectory.objective import GLMObjective

        if self.offset.any():
            raise ValueError("the trajectory objective has no offset: add it as a feature, or train without it")
        return GLMObjective(self.features, self.targets, self.weights, self.loss)


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted GLM.

    coef θ̂ (p,); outputs f_i = o_i + φ_iᵀθ̂ (n,); residual r = w ∂ℓ/∂f (n,); curvature d = w ∂²ℓ/∂f² (n,);
    gradient_norm ‖∇F(θ̂)‖₂, the certificate of the optimum.
    """

    glm: GLM
    objective: Objective  # in the coordinates of `space`
    space: RowSpace
    minimum: Minimum

    @cached_property
    def coef(self) -> Array:
        return self.space.lift(self.minimum.theta)

    @property
    def outputs(self) -> Array:
        return self.minimum.outputs

    @cached_property
    def residual(self) -> Array:
        return self.objective.residual(self.outputs)

    @cached_property
    def curvature(self) -> Array:
        return self.objective.curvature(self.outputs)

    @cached_property
    def gradient_norm(self) -> float:
        gradient = self.glm.features.T @ self.residual + self.glm.ridge * self.coef
        return float(np.linalg.norm(gradient))

    def linearize(self, queries: ArrayLike) -> Linearization:
        """The fitted model at its optimum, with query rows (q, p)."""
        rows = query_array(queries, self.glm.features.shape[1])
        return Linearization(self.glm.features, self.residual, self.curvature, self.glm.ridge, rows)
