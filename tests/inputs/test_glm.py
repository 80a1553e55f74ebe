"""Bad input: each with the message that says what is wrong, with the numbers, and what to do."""

import numpy as np
import pytest

from trak_theory import (
    GLM,
    Linearization,
    PseudoHuber,
    drop_ridge,
    ladder,
    leave_one_out,
    project,
    projection_matrix,
    trak,
    trak_over_models,
)
from trak_theory.errors import ConvergenceError, NoMinimiserError, RankDeficientError, ScaleError
from trak_theory.loo.ladder import subset_models

RNG = np.random.default_rng(0)
X = RNG.standard_normal((20, 3))
Y = RNG.standard_normal(20)
LABELS = (np.arange(20) % 2).astype(float)


def with_entry(array, value, index=(4, 1)):
    array = np.array(array, float)
    array[index[: array.ndim]] = value
    return array


@pytest.mark.parametrize(
    ("features", "targets", "options", "error", "message"),
    [
        (with_entry(X, np.nan), Y, {}, ValueError, r"features has 1 non-finite entries .* first at index \(4, 1\)"),
        (X, with_entry(Y, np.inf), {}, ValueError, r"targets has 1 non-finite entries .* first at index \(4,\)"),
        (X, Y[:-1], {}, ValueError, "targets has 19 values for n = 20 rows"),
        (X[0], Y, {}, ValueError, r"features must have 2 axes, got shape \(3,\)"),
        (X, Y[:, None], {}, ValueError, r"targets must have 1 axes, got shape \(20, 1\)"),
        (np.zeros((0, 3)), np.zeros(0), {}, ValueError, r"features is empty: shape \(0, 3\)"),
        (X[:1], Y[:1], {}, ValueError, "one training point only"),
        (
            np.ma.masked_array(X, X.max() == X),
            Y,
            {},
            ValueError,
            "features is a masked array with 1 masked entries: fill them",
        ),
        (X, Y, {"loss": "logistic"}, ValueError, r"must be 0 or 1; 20 of 20 are not, first: targets\[0\]"),
        (X, LABELS - 1, {"loss": "poisson"}, ValueError, r"counts ≥ 0; 10 of 20 are not, first: targets\[0\] = -1"),
        (X, Y, {"ridge": -1.0}, ValueError, "ridge must be ≥ 0, got -1"),
        (X, Y, {"ridge": [1.0, -2.0, 0.0]}, ValueError, "ridge must be ≥ 0, got -2 at index 1"),
        (X, Y, {"ridge": [1.0, 2.0]}, ValueError, "ridge has 2 values for p = 3 coefficients"),
        (X, Y, {"ridge": np.nan}, ValueError, "ridge has 1 non-finite"),
        (X, Y, {"weights": with_entry(np.ones(20), -3.0)}, ValueError, "weights must be ≥ 0, got -3 at index 4"),
        (X, Y, {"weights": np.ones(5)}, ValueError, "weights has 5 values for n = 20"),
        (X, Y, {"loss": "hinge"}, ValueError, r"unknown loss 'hinge': choose one of \['huber', 'logistic'"),
        (X.astype(object), Y, {}, TypeError, "features is an object array; convert it to numbers"),
        (X.astype(complex), Y, {}, TypeError, "features must be real numbers, got dtype complex128"),
        (X, np.array(["a"] * 20), {}, TypeError, "targets must be real numbers, got dtype <U1"),
        (np.full((20, 3), 2**53 + 1), Y, {}, ValueError, "integer 9007199254740993, beyond 2⁵³"),
    ],
)
def test_glm_refuses(features, targets, options, error, message):
    with pytest.raises(error, match=message):
        GLM(features, targets, **options)


def test_small_integers_do_not_overflow():
    features = np.random.default_rng(1).integers(-128, 127, (20, 3), dtype=np.int8)
    coef = GLM(features, Y).fit().coef
    assert np.allclose(coef, np.linalg.lstsq(features.astype(float), Y)[0])


@pytest.mark.parametrize(
    ("features", "targets", "loss", "error", "message"),
    [
        (RNG.standard_normal((5, 9)), Y[:5], "squared", RankDeficientError, "p = 9 coefficients, n = 5 points"),
        (np.column_stack([X, X[:, 0]]), Y, "squared", RankDeficientError, "reciprocal condition .* over 4 columns"),
        (np.column_stack([X, 0 * Y]), Y, "squared", RankDeficientError, "column 3 is zero and has no ridge"),
        (X, (X[:, 0] > 0).astype(float), "logistic", NoMinimiserError, "separable data"),
        (np.ones((20, 1)), np.zeros(20), "poisson", NoMinimiserError, "no minimiser exists.* poisson loss of 20 of 20"),
        (np.ones((20, 1)), np.ones(20), "logistic", NoMinimiserError, r"20 of 20 points .* \(all targets are 1\)"),
    ],
    ids=["p > n", "dependent columns", "zero column", "separable", "no counts", "one class"],
)  # fmt: skip
def test_no_minimiser_is_an_error_and_not_a_large_number(features, targets, loss, error, message):
    with pytest.raises(error, match=message):
        GLM(features, targets, loss=loss).fit()
    assert np.all(np.isfinite(GLM(features, targets, loss=loss, ridge=0.1).fit().coef))


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (1e160, r"squares of 3 of 3 columns of features overflow .* column 0 is 2\.\d+e\+160; divide the column"),
        (1e-200, r"squares of 3 of 3 columns of features underflow .* column 0 is 2\.\d+e-200"),
    ],
)
def test_a_scale_beyond_floating_point_is_named(scale, message):
    with pytest.raises(ScaleError, match=message):
        GLM(X * scale, Y).fit()


def test_negligible_columns_with_a_ridge_and_masks_that_hide_nothing_are_welcome():
    features = np.ma.masked_array(np.column_stack([X, 1e-200 * Y]), mask=False)
    fit = GLM(features, Y, ridge=1.0).fit()
    assert np.allclose(fit.coef, np.r_[GLM(X, Y, ridge=1.0).fit().coef, 0.0])


def test_columns_seen_only_where_the_loss_is_flat():
    features = np.column_stack([X, np.zeros(20)])
    features[4, 3] = 1.0
    weights = with_entry(np.ones(20), 0.0)
    with pytest.raises(RankDeficientError, match="column 3 has entries only where the curvature of the loss is zero"):
        GLM(features, Y, weights=weights).fit()


def test_one_class_of_labels_has_a_minimiser_with_a_ridge_or_balanced_rows():
    fit = GLM(X, np.ones(20), loss="logistic", ridge=1.0).fit()
    assert fit.gradient_norm < 1e-12
    assert np.allclose(GLM([[-1.0], [1.0]], [1.0, 1.0], loss="logistic").fit().coef, 0.0, atol=1e-12)
    assert leave_one_out(fit, X[:2]).unresolved == {}


def test_huber_targets_far_from_zero():
    """From θ = 0 the Newton step is 1e24 times too long."""
    fit = GLM(np.column_stack([X, np.ones(20)]), Y + 1e8, loss="huber").fit()
    assert fit.coef[3] == pytest.approx(1e8)
    assert np.all(np.isfinite(leave_one_out(fit, X[:1] @ np.eye(3, 4)).radius))


def test_quasi_separable_data_are_recognised():
    features = np.column_stack([np.r_[np.zeros(10), 1.0, 2.0], np.ones(12)])
    targets = np.r_[np.tile([0.0, 1.0], 5), 1.0, 1.0]  # the last two can be pushed to certainty at no cost
    with pytest.raises(NoMinimiserError, match="of 2 of 12 points falls for ever"):
        GLM(features, targets, loss="logistic").fit()


def test_an_unreachable_tolerance_says_how_far_it_came(monkeypatch):
    monkeypatch.setattr("trak_theory.glm.minimise.MAX_STEPS", 2)
    with pytest.raises(ConvergenceError, match=r"in 2 steps: decrement .*, largest output .*, gradient norm"):
        GLM(X * 5, LABELS, loss="logistic", ridge=0.1).fit()


def fitted():
    return GLM(X, LABELS, loss="logistic", ridge=1.0).fit()


@pytest.mark.parametrize(
    ("queries", "error", "message"),
    [
        (np.zeros((2, 4)), ValueError, "queries have width 4, the features have p = 3"),
        (np.zeros(3), ValueError, "queries must have 2 axes"),
        (np.full((2, 3), np.nan), ValueError, "queries has 6 non-finite"),
        (np.zeros((0, 3)), ValueError, "queries is empty"),
    ],
)
@pytest.mark.parametrize("consumer", [leave_one_out, lambda fit, queries: fit.linearize(queries)])
def test_queries(consumer, queries, error, message):
    with pytest.raises(error, match=message):
        consumer(fitted(), queries)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"k": 0}, ValueError, "k must be at least 1, got 0"),
        ({"k": 2.0}, TypeError, "k must be an integer, got 2.0"),
        ({"k": 4}, ValueError, "k = 4 exceeds p = 3"),
        ({"k": 2, "ensemble": 0}, ValueError, "ensemble must be at least 1, got 0"),
        ({"k": 2, "ridge": -1.0}, ValueError, "ridge must be ≥ 0"),
        ({"k": 2, "kind": "cauchy"}, ValueError, "unknown projection 'cauchy'"),
    ],
)
def test_trak_and_ladder_options(options, error, message):
    fit = fitted()
    with pytest.raises(error, match=message):
        trak(fit.linearize(X[:2]), rng=np.random.default_rng(0), **options)
    with pytest.raises(error, match=message):
        ladder(fit, X[:2], rng=np.random.default_rng(0), **options)


def test_projections():
    lin = fitted().linearize(X[:2])
    with pytest.raises(ValueError, match="projection has 5 rows, the features have p = 3"):
        project(lin, np.ones((5, 2)))
    with pytest.raises(ValueError, match="non-finite"):
        project(lin, np.full((3, 2), np.inf))
    sparse = projection_matrix(3, 2, kind="sparse", rng=np.random.default_rng(0))
    sparse.data[0] = np.nan
    with pytest.raises(ValueError, match="non-finite"):
        project(lin, sparse)
    mixed = Linearization(lin.features, lin.residual, lin.curvature, [0.0, 1.0, 1.0], lin.queries)
    with pytest.raises(ValueError, match="one ridge for all coefficients; use drop_ridge first"):
        project(mixed, np.eye(3))
    assert project(drop_ridge(mixed, ridge=1.0), np.eye(3)).features.shape == (20, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"residual": np.ones(3)}, "residual has 3 values for n = 20"),
        ({"curvature": np.ones(3)}, "curvature has 3 values for n = 20"),
        ({"curvature": -np.ones(20)}, "curvature must be ≥ 0, got -1"),
        ({"ridge": -1.0}, "ridge must be ≥ 0"),
    ],
)
def test_linearization(changes, message):
    lin = fitted().linearize(X[:2])
    fields = {name: getattr(lin, name) for name in ("features", "residual", "curvature", "ridge", "queries")}
    with pytest.raises(ValueError, match=message):
        Linearization(**(fields | changes))


def test_models():
    glm = GLM(X, LABELS, loss="logistic", ridge=1.0)
    with pytest.raises(ValueError, match=r"fraction must lie in \(0, 1\), got 1.5"):
        subset_models(glm, X[:2], count=2, fraction=1.5, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="the number of models must be at least 1"):
        trak_over_models([], k=2, rng=np.random.default_rng(0))
    lin = glm.fit().linearize(X[:2])
    other = glm.fit().linearize(X[:3])
    with pytest.raises(ValueError, match="must share training points and queries"):
        trak_over_models([lin, other], k=2, rng=np.random.default_rng(0))


def test_huber_width():
    with pytest.raises(ValueError, match="width δ must be positive, got 0"):
        PseudoHuber(0)
