"""Each rung of the ladder against an independent implementation of its formula, primal and dual."""

from itertools import pairwise

import numpy as np
import pytest
import statsmodels.api as sm
from support.oracles import dense_kernel, dual_kernel
from support.problems import LOSS_NAMES, queries_for, random_glm

from trak_theory import (
    GLM,
    Linearization,
    drop_ridge,
    influence,
    ladder,
    newton,
    project,
    projection_matrix,
    trak,
    trak_as_released,
    trak_mean_factors,
    trak_over_models,
    unit_curvature,
)
from trak_theory.loo.ladder import subset_models


def close(actual, expected, tol=1e-10):
    assert np.abs(actual - expected).max() <= tol * np.abs(expected).max()


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize(("n", "p"), [(40, 8), (30, 70)])
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_newton_and_influence_are_their_dense_formulas(loss, n, p, intercept):
    glm = random_glm(1, n=n, p=p, loss=loss, ridge=0.7, intercept=intercept, weights=True)
    queries = queries_for(glm, 1)
    lin = glm.fit().linearize(queries)
    for kernel in (dense_kernel, dual_kernel) if p > n else (dense_kernel,):
        gram, cross = kernel(glm.features, lin.curvature, glm.ridge, queries)
        leverage = lin.curvature * np.diag(gram)
        close(lin.leverage, leverage)
        close(lin.cross, cross)
        close(influence(lin), -lin.residual[:, None] * cross)
        close(newton(lin), -(lin.residual / (1 - leverage))[:, None] * cross)


def test_several_columns_without_a_ridge_in_a_row_space():
    """p > n, three columns unpenalised: they are not rotated with the others."""
    rng, ridge = np.random.default_rng(5), np.full(40, 0.7)
    ridge[[2, 11, 30]] = 0.0
    rows, queries, curvature = rng.standard_normal((12, 40)), rng.standard_normal((4, 40)), rng.uniform(0.5, 2, 12)
    lin = Linearization(rows, np.ones(12), curvature, ridge, queries)
    gram, cross = dense_kernel(rows, curvature, ridge, queries)
    close(lin.leverage, curvature * np.diag(gram))
    close(lin.cross, cross)


def test_rows_of_zero_curvature_need_no_special_case():
    glm = random_glm(2, n=30, p=70, intercept=True)
    fit, queries = glm.fit(), queries_for(glm, 2)
    curvature = fit.curvature.copy()
    curvature[::3] = 0.0
    lin = Linearization(glm.features, fit.residual, curvature, glm.ridge, queries)
    gram, cross = dual_kernel(glm.features, curvature, glm.ridge, queries)
    close(lin.cross, cross)
    assert np.all(lin.leverage[::3] == 0)
    close(lin.leverage, curvature * np.diag(gram))


def test_degrees_of_freedom_is_the_trace():
    glm = random_glm(3, n=50, p=9, ridge=2.0)
    lin = glm.fit().linearize(queries_for(glm, 3))
    hessian = (glm.features.T * lin.curvature) @ glm.features
    trace = np.trace(np.linalg.solve(hessian + 2.0 * np.eye(9), hessian))
    assert lin.degrees_of_freedom == pytest.approx(trace, rel=1e-12)


@pytest.mark.parametrize(("family", "loss"), [(sm.families.Binomial(), "logistic"), (sm.families.Poisson(), "poisson")])
def test_newton_at_ridge_zero_is_the_one_step_deletion_of_statsmodels(family, loss):
    glm = random_glm(4, n=80, p=5, loss=loss, ridge=0.0)
    result = sm.GLM(glm.targets, glm.features, family=family).fit(tol=1e-14, tol_criterion="params")
    lin = glm.fit().linearize(np.eye(5))
    # With identity queries the attribution is the change of the coefficients: coef − coef without i.
    deletion = result.get_influence(observed=True).d_params
    close(newton(lin), deletion, 1e-8)


def test_unit_curvature_and_ridge_endomaps():
    glm = random_glm(5, n=40, p=8, ridge=3.0, weights=True)
    queries = queries_for(glm, 5)
    lin = glm.fit().linearize(queries)
    ones = np.ones(40)
    close(influence(unit_curvature(lin)), -lin.residual[:, None] * dense_kernel(glm.features, ones, 3.0, queries)[1])
    ridgeless = dense_kernel(glm.features, lin.curvature, 0.0, queries)[1]
    close(influence(drop_ridge(lin)), -lin.residual[:, None] * ridgeless)
    close(drop_ridge(lin, ridge=0.4).cross, dense_kernel(glm.features, lin.curvature, 0.4, queries)[1])


def test_without_a_ridge_and_p_above_n_the_inverse_is_the_pseudo_inverse():
    glm = random_glm(6, n=20, p=60)
    queries = queries_for(glm, 6)
    bare = drop_ridge(unit_curvature(glm.fit().linearize(queries)))
    close(bare.cross, glm.features @ np.linalg.pinv(glm.features.T @ glm.features) @ queries.T, 1e-9)


def test_no_ridge_rung_is_named_unavailable_when_the_rows_are_dependent():
    glm = random_glm(7, n=20, p=60)
    features = glm.features.copy()
    features[1] = features[0]
    fit = GLM(features, glm.targets, loss="logistic", ridge=1.0).fit()
    rungs = ladder(fit, features[:3], k=10, rng=np.random.default_rng(0))
    assert "rank deficient" in rungs.unavailable["no ridge"]
    assert "no ridge" not in rungs.rungs
    assert "projected" in rungs.rungs


@pytest.mark.parametrize("kind", ["normal", "rademacher", "sparse"])
@pytest.mark.parametrize("ridge", [0.0, 2.0])
def test_trak_is_the_projected_kernel_written_out(kind, ridge):
    glm = random_glm(8, n=40, p=30)
    queries = queries_for(glm, 8)
    lin = glm.fit().linearize(queries)
    scores = trak(lin, k=12, ensemble=3, ridge=ridge, kind=kind, rng=np.random.default_rng(9))
    kernels = []
    for child in np.random.default_rng(9).spawn(3):
        matrix = projection_matrix(30, 12, kind=kind, rng=child)
        matrix = matrix.toarray() if hasattr(matrix, "toarray") else matrix
        inner = matrix.T @ glm.features.T @ glm.features @ matrix + ridge * np.eye(12)
        kernels.append(glm.features @ matrix @ np.linalg.inv(inner) @ matrix.T @ queries.T)
    close(scores, -lin.residual[:, None] * np.mean(kernels, axis=0), 1e-9)
    assert np.array_equal(scores, trak(lin, k=12, ensemble=3, ridge=ridge, kind=kind, rng=np.random.default_rng(9)))


def test_trak_over_models_as_published_and_as_released():
    glm = random_glm(10, n=60, p=10)
    queries = queries_for(glm, 10)
    models = subset_models(glm, queries, count=4, rng=np.random.default_rng(1))

    def args():
        return {"k": 6, "ridge": 0.1, "rng": np.random.default_rng(2)}

    kernels, scores = [], []
    for lin, child in zip(models, np.random.default_rng(2).spawn(4), strict=True):
        matrix = projection_matrix(10, 6, rng=child.spawn(1)[0])
        projected = project(drop_ridge(unit_curvature(lin), ridge=0.1), matrix)
        kernels.append(projected.cross)
        scores.append(-lin.residual[:, None] * projected.cross)
    close(trak_over_models(models, **args()), np.mean(scores, axis=0))
    mean_residual = np.mean([lin.residual for lin in models], axis=0)
    factors = -mean_residual[:, None] * np.mean(kernels, axis=0)
    close(trak_mean_factors(models, **args()), factors)
    released = trak_as_released(models, **args())
    scale = np.abs(mean_residual).mean() * np.abs(np.mean(kernels, axis=0)).mean()
    assert np.abs(released * scale - factors).max() < 2e-3 * np.abs(factors).max()  # two half-precision roundings
    assert not np.allclose(released * scale, factors, rtol=1e-6)


def test_subset_models_leave_the_other_points_out():
    glm = random_glm(11, n=50, p=4)
    queries = queries_for(glm, 11)
    (model,) = subset_models(glm, queries, count=1, fraction=0.6, rng=np.random.default_rng(3))
    (child,) = np.random.default_rng(3).spawn(1)
    chosen = child.choice(50, 30, replace=False)
    part = GLM(glm.features[chosen], glm.targets[chosen], loss="logistic", ridge=glm.ridge * 0.6).fit()
    outputs = glm.features @ part.coef
    close(model.residual, glm.loss.residual(glm.targets, outputs), 1e-8)


def test_ladder_holds_every_rung_and_compares_each_with_exact_and_with_the_rung_above():
    glm = random_glm(12, n=50, p=20)
    queries = queries_for(glm, 12)
    fit = glm.fit()
    models = subset_models(glm, queries, count=3, rng=np.random.default_rng(0))
    rungs = ladder(fit, queries, k=8, ensemble=4, models=models, rng=np.random.default_rng(5))
    names = list(rungs.rungs)
    assert names == [
        "exact", "newton", "influence", "unit curvature", "no ridge", "projected",
        "ensemble", "models", "mean factors", "as released",
    ]  # fmt: skip
    table = rungs.table()
    assert [row["rung"] for row in table if row["against"] == "exact"] == names[1:]
    steps = [(row["against"], row["rung"]) for row in table if row["against"] != "exact"]
    assert steps == list(pairwise(names[1:]))
    lin = fit.linearize(queries)
    close(rungs.rungs["newton"], newton(lin))
    close(rungs.rungs["influence"], influence(lin))
    # influence against newton: the row factor is exactly 1 − h_i
    close(rungs.rungs["influence"], (1 - lin.leverage)[:, None] * rungs.rungs["newton"])
    figure = rungs.plot()
    assert len(figure.axes) == 2
