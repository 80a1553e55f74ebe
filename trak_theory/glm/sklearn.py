"""Fitted scikit-learn estimators as GLMs in the sum convention.

estimator             its objective                               loss       ridge
LinearRegression      Σ(y − f)²                                   squared    0
Ridge(α)              Σ w(y − f)² + α‖θ‖²                         squared    α
LogisticRegression(C) C Σ w ℓ + ½‖θ‖²                             logistic   1/C
PoissonRegressor(α)   Σ w ℓ / Σ w + ½ α‖θ‖²                       poisson    α Σ w

The intercept is a last column of ones without ridge (liblinear penalises it: column `intercept_scaling`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike

from trak_theory.numerics.checks import real_array

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

SUPPORTED = "LinearRegression, Ridge, binary LogisticRegression (L2 or no penalty), PoissonRegressor"


class Arguments(TypedDict):
    """Arguments of `GLM`."""

    features: Array
    targets: Array
    loss: str
    ridge: Array
    weights: Array


def translate(estimator: BaseEstimator, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None) -> Arguments:
    """Arguments of the GLM whose optimum is the estimator's. For a Pipeline, `X` is what the pipeline takes.

    Query rows come from `design_rows`, so that scaler and intercept are applied to them too.
    """
    model = _final_step(estimator)
    kind = type(model).__name__
    if kind not in _TRANSLATIONS:
        raise TypeError(f"from_sklearn does not support {kind}; supported: {SUPPORTED}, alone or last in a Pipeline")
    if not hasattr(model, "coef_"):
        raise ValueError(f"the {kind} is not fitted: call fit first")
    labels = np.asarray(y)
    weights = np.ones(len(labels)) if sample_weight is None else real_array("sample_weight", sample_weight, 1)
    targets, loss, ridge, weights = _TRANSLATIONS[kind](model, labels, weights)
    features = design_rows(estimator, X)
    ridges = np.full(features.shape[1], ridge)
    if _has_intercept(model) and not _penalises_intercept(model):
        ridges[-1] = 0.0
    return {"features": features, "targets": targets, "loss": loss, "ridge": ridges, "weights": weights}


def design_rows(estimator: BaseEstimator, X: ArrayLike) -> Array:
    """Rows of the design for `X`: the pipeline's transforms, then the intercept column."""
    model = _final_step(estimator)
    transformed = estimator[:-1].transform(X) if model is not estimator and len(estimator) > 1 else X
    dense = transformed.toarray() if hasattr(transformed, "toarray") else transformed
    rows = real_array("X", dense, 2)
    if not _has_intercept(model):
        return rows
    value = model.intercept_scaling if _penalises_intercept(model) else 1.0
    return np.column_stack([rows, np.full(len(rows), value)])


def _final_step(estimator: BaseEstimator) -> BaseEstimator:
    return estimator[-1] if type(estimator).__name__ == "Pipeline" else estimator


def _has_intercept(model: BaseEstimator) -> bool:
    return bool(model.fit_intercept)


def _penalises_intercept(model: BaseEstimator) -> bool:
    return getattr(model, "solver", None) == "liblinear"


Translation = tuple[Array, str, float, Array]


def _linear(model: BaseEstimator, y: Array, weights: Array) -> Translation:
    return _one_output(model, y), "squared", 0.0, weights


def _ridge(model: BaseEstimator, y: Array, weights: Array) -> Translation:
    if np.ndim(model.alpha):
        raise TypeError("from_sklearn supports Ridge with one alpha, not one per target")
    return _one_output(model, y), "squared", float(model.alpha), weights


def _one_output(model: BaseEstimator, y: Array) -> Array:
    if np.ndim(model.coef_) > 1 and len(model.coef_) > 1:
        raise TypeError(f"from_sklearn supports one output, this model has {len(model.coef_)}")
    if getattr(model, "positive", False):
        raise TypeError("from_sklearn does not support positive=True: a constrained optimum is not a stationary point")
    return y.ravel()


def _logistic(model: BaseEstimator, y: Array, weights: Array) -> Translation:
    if len(model.classes_) != 2:
        raise TypeError(f"from_sklearn supports two classes, this LogisticRegression has {len(model.classes_)}")
    l1_ratio = getattr(model, "l1_ratio", 0)
    if getattr(model, "penalty", None) in ("l1", "elasticnet") or l1_ratio not in (0, 0.0, None):
        raise TypeError("from_sklearn supports L2 or no penalty; an L1 penalty has no second derivative")
    unknown = ~np.isin(y, model.classes_)
    if unknown.any():
        raise ValueError(f"label {y[unknown].tolist()[0]!r} is not one of the fitted classes {model.classes_.tolist()}")
    if model.class_weight is not None:
        from sklearn.utils.class_weight import compute_sample_weight

        weights = weights * compute_sample_weight(model.class_weight, y)
    unpenalised = getattr(model, "penalty", "l2") is None
    return (y == model.classes_[1]).astype(float), "logistic", 0.0 if unpenalised else 1.0 / model.C, weights


def _poisson(model: BaseEstimator, y: Array, weights: Array) -> Translation:
    return y, "poisson", float(model.alpha) * float(weights.sum()), weights


_TRANSLATIONS: dict[str, Callable[[BaseEstimator, Array, Array], Translation]] = {
    "LinearRegression": _linear,
    "Ridge": _ridge,
    "LogisticRegression": _logistic,
    "PoissonRegressor": _poisson,
}
