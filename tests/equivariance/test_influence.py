"""Metamorphic properties of exact influence and its Newton approximation."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.oracles import refit
from support.problems import glms, losses, queries_for, random_glm, seeds

from trak_theory import GLM, leave_one_out, newton
from trak_theory.loo import exact as exact_module

TOL = 1e-7  # of Newton's step, whose rounding grows with the condition, here up to 1e3


def attributions(glm, queries):
    fit = glm.fit()
    exact = leave_one_out(fit, queries)
    return exact, newton(fit.linearize(queries))


def same(left, right, radius=0.0):
    """Equal where both are numbers, to rounding of the largest entry of the query, or to what both promise."""
    scale = np.nanmax(np.abs(right), axis=0) + 1e-300
    usable = np.isfinite(left) & np.isfinite(right)
    assert np.all(np.abs(left - right)[usable] <= (radius + TOL * np.broadcast_to(scale, right.shape))[usable])
    assert np.mean(usable) > 0.5


def same_attributions(left, right, order=slice(None)):
    """The exact influence to its radii, which are infinite where a refit is not certified; Newton to rounding."""
    (exact, step), (other, other_step) = left, right
    same(exact.influence, other.influence[order], exact.radius + other.radius[order])
    same(step, other_step[order])


@given(glms(), seeds)
def test_permuting_the_points_permutes_the_rows(glm, seed):
    queries = queries_for(glm, seed)
    order = np.random.default_rng(seed).permutation(len(glm.targets))
    permuted = GLM(glm.features[order], glm.targets[order], loss=glm.loss, ridge=glm.ridge, weights=glm.weights[order])
    same_attributions(attributions(permuted, queries), attributions(glm, queries), order)


@given(seeds, losses, st.integers(2, 50))
def test_rotating_the_parameters_changes_nothing(seed, loss, p):
    glm = random_glm(seed, n=30, p=p, loss=loss)
    queries = queries_for(glm, seed)
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((p, p)))[0]
    rotated = GLM(glm.features @ rotation, glm.targets, loss=glm.loss, ridge=1.0)
    same_attributions(attributions(rotated, queries @ rotation), attributions(glm, queries))


@given(glms(), seeds, st.sampled_from((1e-3, 7.0, 1e3)))
def test_scaling_features_queries_and_ridge_together_changes_nothing(glm, seed, c):
    queries = queries_for(glm, seed)
    scaled = GLM(c * glm.features, glm.targets, loss=glm.loss, ridge=c**2 * glm.ridge, weights=glm.weights)
    same_attributions(attributions(scaled, c * queries), attributions(glm, queries))


@given(seeds, losses, st.integers(2, 40))
def test_a_row_of_weight_two_is_both_duplicates_removed_together(seed, loss, p):
    glm = random_glm(seed, n=20, p=p, loss=loss)
    queries = queries_for(glm, seed)
    weights = np.ones(20)
    weights[0] = 2.0
    twice = GLM(glm.features, glm.targets, loss=glm.loss, ridge=glm.ridge, weights=weights)
    copied = GLM(
        np.vstack([glm.features, glm.features[:1]]),
        np.append(glm.targets, glm.targets[0]),
        loss=glm.loss,
        ridge=glm.ridge,
    )
    assert np.allclose(twice.fit().coef, copied.fit().coef, rtol=1e-8, atol=1e-10)
    without = GLM(glm.features, glm.targets, loss=glm.loss, ridge=glm.ridge, weights=np.r_[0.0, np.ones(19)])
    truth = queries @ (copied.fit().coef - without.fit().coef)
    exact = leave_one_out(twice.fit(), queries)
    scale = np.abs(exact.influence[0]).max() + 1e-12
    assert np.all(np.abs(exact.influence[0] - truth) <= exact.radius[0] + 1e-7 * scale)


@given(glms(), seeds)
def test_a_point_without_residual_has_no_influence(glm, seed):
    queries = queries_for(glm, seed)
    row = np.random.default_rng(seed).standard_normal((1, glm.features.shape[1]))
    for features, weight in ((np.zeros_like(row), 1.0), (row, 0.0)):
        silent = GLM(
            np.vstack([glm.features, features]),
            np.append(glm.targets, glm.targets[0]),
            loss=glm.loss,
            ridge=glm.ridge,
            weights=np.append(glm.weights, weight),
        )
        exact, one_step = attributions(silent, queries)
        assert np.all(one_step[-1] == 0)
        assert np.all(exact.influence[-1] == 0)


@given(glms(max_n=30), seeds, st.integers(1, 40))
def test_block_size_does_not_matter(glm, seed, block):
    queries = queries_for(glm, seed)
    whole = leave_one_out(glm.fit(), queries)
    original, exact_module.BLOCK = exact_module.BLOCK, block
    try:
        parts = leave_one_out(glm.fit(), queries)
    finally:
        exact_module.BLOCK = original
    assert set(whole.unresolved) == set(parts.unresolved)
    usable = np.isfinite(whole.influence)
    difference = np.abs(parts.influence - whole.influence)
    rms = np.sqrt(np.nanmean(whole.influence**2, axis=0))
    assert np.all((difference <= whole.radius + parts.radius + 1e-12 * rms)[usable])


@given(glms(), seeds)
def test_zero_padding_the_parameters_changes_nothing(glm, seed):
    # p grows past n, so the same problem goes through the row-space reduction.
    queries = queries_for(glm, seed)
    n = len(glm.targets)
    wide = GLM(
        np.hstack([np.zeros((n, n + 5)), glm.features]),
        glm.targets,
        loss=glm.loss,
        ridge=np.r_[np.ones(n + 5), glm.ridge],
        weights=glm.weights,
    )
    padded = np.hstack([np.ones((len(queries), n + 5)), queries])
    same_attributions(attributions(wide, padded), attributions(glm, queries))


@given(glms(), seeds)
def test_leverages_lie_in_the_unit_interval_and_sum_to_the_degrees_of_freedom(glm, seed):
    lin = glm.fit().linearize(queries_for(glm, seed))
    assert np.all((lin.leverage >= 0) & (lin.leverage < 1 + 1e-9))
    n, p = glm.features.shape
    assert lin.degrees_of_freedom <= min(n, p) + 1 + 1e-9
    hessian = (glm.features.T * lin.curvature) @ glm.features
    trace = np.trace(np.linalg.solve(hessian + np.diag(glm.ridge), hessian))
    assert np.isclose(lin.degrees_of_freedom, trace, rtol=1e-5)


@given(glms(max_n=25, max_p=40), seeds)
def test_the_radius_covers_the_truth(glm, seed):
    queries = queries_for(glm, seed)
    fit = glm.fit()
    exact = leave_one_out(fit, queries)
    rms = np.sqrt(np.nanmean(exact.influence**2, axis=0))
    for i in np.random.default_rng(seed).choice(len(glm.targets), 5, replace=False):
        if i in exact.unresolved:
            continue
        truth = queries @ (fit.coef - refit(glm, i, fit.coef))
        assert np.all(np.abs(exact.influence[i] - truth) <= exact.radius[i] + 1e-9 * rms)
