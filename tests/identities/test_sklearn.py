"""GLM.from_sklearn: the same optimum as the estimator, in each one's own normalisation."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import (
    ElasticNet,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trak_theory import GLM
from trak_theory.glm.sklearn import design_rows


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((120, 5)) + 0.5
    outputs = features @ rng.standard_normal(5)
    return features, {
        "real": outputs + rng.standard_normal(120) + 3.0,
        "label": np.where(rng.random(120) < 1 / (1 + np.exp(-outputs)), "yes", "no"),
        "count": rng.poisson(np.exp(0.3 * outputs)).astype(float),
        "weight": rng.uniform(0.5, 3.0, 120),
    }


def optimum(model):
    coef = np.ravel(model.coef_)
    return np.r_[coef, np.ravel(model.intercept_)] if model.fit_intercept else coef


TIGHT = {"tol": 1e-12, "max_iter": 10_000}
ESTIMATORS = [
    (LinearRegression(), "real"),
    (LinearRegression(fit_intercept=False), "real"),
    (Ridge(2.5, solver="cholesky"), "real"),
    (Ridge(2.5, fit_intercept=False, solver="cholesky"), "real"),
    (LogisticRegression(C=0.3, **TIGHT), "label"),
    (LogisticRegression(C=30.0, fit_intercept=False, solver="newton-cholesky", **TIGHT), "label"),
    (LogisticRegression(C=np.inf, solver="newton-cholesky", **TIGHT), "label"),
    (LogisticRegression(C=2.0, solver="liblinear", intercept_scaling=3.0, **TIGHT), "label"),
    (PoissonRegressor(alpha=0.2, solver="newton-cholesky", **TIGHT), "count"),
    (PoissonRegressor(alpha=0.0, solver="newton-cholesky", **TIGHT), "count"),
]


@pytest.mark.parametrize(("estimator", "kind"), ESTIMATORS, ids=lambda value: str(value)[:60])
@pytest.mark.parametrize("weighted", [False, True])
def test_same_optimum(data, estimator, kind, weighted):
    features, targets = data
    weights = targets["weight"] if weighted else None
    model = estimator.fit(features, targets[kind], sample_weight=weights)
    fit = GLM.from_sklearn(model, features, targets[kind], sample_weight=weights).fit()
    expected = optimum(model)
    if getattr(model, "solver", "") == "liblinear":
        expected[-1] /= model.intercept_scaling
    assert np.abs(fit.coef - expected).max() <= 1e-6 * np.abs(expected).max()
    queries = design_rows(model, features[:3])
    decision = getattr(model, "decision_function", None) or getattr(model, "predict")  # noqa: B009
    outputs = np.log(model.predict(features[:3])) if kind == "count" else decision(features[:3])
    assert np.allclose(queries @ fit.coef, outputs, rtol=1e-6)


def test_balanced_class_weights(data):
    features, targets = data
    model = LogisticRegression(class_weight="balanced", **TIGHT).fit(features, targets["label"])
    fit = GLM.from_sklearn(model, features, targets["label"]).fit()
    assert np.allclose(fit.coef, optimum(model), rtol=1e-6)


def test_pipeline_with_a_scaler():
    features, targets = load_breast_cancer(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, **TIGHT)).fit(features, targets)
    fit = GLM.from_sklearn(pipeline, features, targets).fit()
    assert np.abs(fit.coef - optimum(pipeline[-1])).max() < 1e-6
    assert np.allclose(design_rows(pipeline, features[:4]) @ fit.coef, pipeline.decision_function(features[:4]))


def test_positive_label_is_the_second_class(data):
    features, targets = data
    model = LogisticRegression(**TIGHT).fit(features, targets["label"])
    glm = GLM.from_sklearn(model, features, targets["label"])
    assert np.array_equal(glm.targets, (targets["label"] == "yes").astype(float))


@pytest.mark.filterwarnings("ignore:l1_ratio parameter is only used:UserWarning")  # scikit-learn before 1.8
@pytest.mark.parametrize(
    ("estimator", "targets", "error", "message"),
    [
        (ElasticNet(), "real", TypeError, "does not support ElasticNet; supported: LinearRegression, Ridge"),
        (LinearRegression(positive=True), "real", TypeError, "positive=True"),
        (LogisticRegression(l1_ratio=1.0, solver="saga", max_iter=5000), "label", TypeError, "L1 penalty"),
    ],
)
def test_unsupported_estimators_are_named(data, estimator, targets, error, message):
    features, values = data
    model = estimator.fit(features, values[targets])
    with pytest.raises(error, match=message):
        GLM.from_sklearn(model, features, values[targets])


def test_unfitted_three_classes_and_unknown_labels(data):
    features, values = data
    with pytest.raises(ValueError, match="not fitted"):
        GLM.from_sklearn(Ridge(), features, values["real"])
    three = np.arange(120) % 3
    with pytest.raises(TypeError, match="two classes, this LogisticRegression has 3"):
        GLM.from_sklearn(LogisticRegression().fit(features, three), features, three)
    model = LogisticRegression().fit(features, values["label"])
    with pytest.raises(ValueError, match="label 'maybe' is not one of the fitted classes"):
        GLM.from_sklearn(model, features, np.array(["maybe"] * 120))
