"""The twin against exact refits of generalised linear models, and against dense Newton steps."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.networks.random_networks import random_block
from support.problems import LOSS_NAMES, random_glm, seeds

from trak_theory import GLM, Linearization, group_newton
from trak_theory.retraining import block_twin, membership, twin
from trak_theory.retraining.ridge_rule import TrainingRecipe, adam_scales


def refit(glm, weights, ridge, queries, targets=None):
    """Outputs of the GLM with these weights, its own minimiser."""
    targets = glm.targets if targets is None else targets
    kept = weights > 0
    found = GLM(glm.features[kept], targets[kept], loss=glm.loss, ridge=ridge, weights=(weights * glm.weights)[kept])
    return queries @ found.fit().coef


def twin_of(glm, queries, ridge):
    fit = glm.fit()
    return fit, twin(fit.linearize(queries), ridge, loss=glm.loss, targets=glm.targets, outputs=fit.outputs)


def some_subsets(rng, glm, size):
    """Three subsets that hold both classes and events, of unequal sizes."""
    return [np.r_[0, 1, 2 + rng.permutation(len(glm.targets) - 2)[: size + k]] for k in range(3)]


@settings(max_examples=60)
@given(
    seed=seeds,
    loss=st.sampled_from(LOSS_NAMES),
    p=st.sampled_from([3, 8, 60]),
    ridge=st.sampled_from([0.3, 3.0, 30.0]),
    weights=st.booleans(),
)
def test_the_twin_of_a_generalised_linear_model_is_the_refit(seed, loss, p, ridge, weights):
    """c = −θ̂ and ridge αλ, on both sides of p = n, with sample weights."""
    glm = random_glm(seed, n=40, p=p, loss=loss, ridge=ridge, weights=weights)
    rng = np.random.default_rng(seed)
    queries = rng.standard_normal((4, p))
    fit, model = twin_of(glm, queries, ridge)
    subsets = some_subsets(rng, glm, 18)
    expected = [
        refit(glm, row, ridge * len(subset) / 40, queries) - queries @ fit.coef
        for row, subset in zip(membership(subsets, 40), subsets, strict=True)
    ]
    np.testing.assert_allclose(model.refit(subsets), expected, atol=1e-10 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("ridge", [1e-4, 1e-2])
def test_interpolating_twins_reach_the_refit_too(ridge):
    """p = 2n, a ridge at which full Newton steps overshoot: single problems with Hessians of their own."""
    glm = random_glm(5, n=60, p=120, loss="logistic", ridge=ridge)
    rng = np.random.default_rng(5)
    queries = rng.standard_normal((4, 120))
    fit, model = twin_of(glm, queries, ridge)
    subsets = some_subsets(rng, glm, 28)
    weights = membership(subsets, 60)
    expected = [refit(glm, row, ridge * row.mean(), queries) - queries @ fit.coef for row in weights]
    found = model.reweight(weights)
    assert found.unresolved == {}
    np.testing.assert_allclose(found.change, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@settings(max_examples=40)
@given(seed=seeds, loss=st.sampled_from(LOSS_NAMES), p=st.sampled_from([4, 50]))
def test_weights_copies_and_labels_are_those_of_the_refit(seed, loss, p):
    glm = random_glm(seed, n=30, p=p, loss=loss, ridge=1.0)
    rng = np.random.default_rng(seed)
    queries = rng.standard_normal((3, p))
    fit, model = twin_of(glm, queries, 1.0)
    weights = np.vstack([rng.uniform(0.1, 1.0, 30), membership([np.r_[np.arange(30), 4, 4, 7]], 30)])
    expected = [refit(glm, row, row.mean(), queries) - queries @ fit.coef for row in weights]
    np.testing.assert_allclose(model.reweight(weights).change, expected, atol=1e-10 * max(1.0, np.abs(expected).max()))
    other = glm.targets[np.r_[3:30, 0:3]]
    expected = refit(glm, np.ones(30), 1.0, queries, other) - queries @ fit.coef
    found = model.relabel(other).refit([np.arange(30)])[0]
    np.testing.assert_allclose(found, expected, atol=1e-10 * max(1.0, np.abs(expected).max()))


@given(seed=seeds, n=st.integers(4, 25), p=st.integers(2, 25), ridge=st.sampled_from([0.05, 1.0, 20.0]))
def test_group_newton_is_one_newton_step(seed, n, p, ridge):
    """Dense: −(Φ_SᵀDΦ_S + αλI)⁻¹ Σ_i (w_i − α) r_iφ_i, for a margin whose outputs follow from its residuals."""
    rng = np.random.default_rng(seed)
    lin = margin(rng, n, p)
    subsets = [rng.choice(n, size, replace=False) for size in (n // 2, n - 1)]
    expected = []
    for row in membership(subsets, n):
        share = row.mean()
        hessian = (lin.features.T * row * lin.curvature) @ lin.features + share * ridge * np.eye(p)
        gradient = lin.features.T @ ((row - share) * lin.residual)
        expected.append(-lin.queries @ np.linalg.solve(hessian, gradient))
    found = twin(lin, ridge).group_newton(subsets)
    np.testing.assert_allclose(found, expected, atol=1e-9 * np.abs(expected).max())


def test_a_share_of_the_data_has_a_share_of_the_ridge():
    """Exact for the squared loss at αλ; removing the others at the whole ridge λ is another problem."""
    glm = random_glm(4, n=30, p=6, loss="squared", ridge=5.0)
    queries = np.random.default_rng(4).standard_normal((3, 6))
    fit, model = twin_of(glm, queries, 5.0)
    kept, removed = np.arange(15), np.arange(15, 30)
    rows, residual = glm.features, fit.residual
    hessian = rows[kept].T @ rows[kept] + 2.5 * np.eye(6)
    step = -queries @ np.linalg.solve(hessian, rows[kept].T @ residual[kept] - 0.5 * rows.T @ residual)
    np.testing.assert_allclose(model.refit([kept])[0], step, atol=1e-9)
    whole = -group_newton(fit.linearize(queries), [removed])[0]
    assert np.abs(whole - step).max() > 0.05 * np.abs(step).max()


def margin(rng, n, p):
    own = rng.uniform(0.05, 0.95, n)
    return Linearization(rng.standard_normal((n, p)), own - 1, own * (1 - own), 0.0, rng.standard_normal((3, p)))


def test_group_newton_is_the_refit_for_the_squared_loss():
    glm = random_glm(3, n=30, p=50, loss="squared", ridge=0.5)
    fit = glm.fit()
    model = twin(
        fit.linearize(np.random.default_rng(0).standard_normal((4, 50))), 0.5, loss="squared", targets=glm.targets
    )
    subsets = [np.arange(15), np.arange(10, 29)]
    np.testing.assert_allclose(model.group_newton(subsets), model.refit(subsets), atol=1e-9)


def test_everything_changes_nothing():
    lin = margin(np.random.default_rng(0), 20, 30)
    jacobian, probabilities, labels, queries = random_block(np.random.default_rng(0), 8, 3, 30)
    for model, n in ((twin(lin, 0.7), 20), (block_twin(jacobian, probabilities, labels, queries, 0.7), 8)):
        assert np.abs(model.refit([np.arange(n)])).max() < 1e-12
        assert np.abs(model.group_newton([np.arange(n)])).max() < 1e-12


def softmax_refit(jacobian, logits, labels, queries, ridge, weights):
    """Newton with halved steps on the p parameters, written out: δ and one step of it from 0."""
    n, classes, p = jacobian.shape
    one_hot = np.eye(classes)[labels]

    def parts(delta):
        z = logits + jacobian @ delta
        pi = np.exp(z - z.max(1, keepdims=True))
        pi /= pi.sum(1, keepdims=True)
        return z, pi

    centre = np.einsum("ncp,nc->p", jacobian, parts(np.zeros(p))[1] - one_hot) / ridge
    share = weights.mean()

    def value(delta):
        z, _ = parts(delta)
        losses = np.log(np.exp(z).sum(1)) - (one_hot * z).sum(1)
        return weights @ losses + share * ridge / 2 * np.sum((delta - centre) ** 2)

    def step(delta):
        _, pi = parts(delta)
        gradient = np.einsum("n,ncp,nc->p", weights, jacobian, pi - one_hot) + share * ridge * (delta - centre)
        hessian = share * ridge * np.eye(p)
        for i in range(n):
            hessian += weights[i] * jacobian[i].T @ (np.diag(pi[i]) - np.outer(pi[i], pi[i])) @ jacobian[i]
        return -np.linalg.solve(hessian, gradient)

    delta = np.zeros(p)
    for _ in range(60):
        move = step(delta)
        while value(delta + move) > value(delta) + 1e-12 * abs(value(delta)):
            move = move / 2
        delta = delta + move
    return queries @ delta, queries @ step(np.zeros(p))


@pytest.mark.parametrize(("n", "classes", "p"), [(12, 3, 7), (9, 4, 20), (6, 3, 40)])
@pytest.mark.parametrize("ridge", [0.1, 2.0])
def test_block_twin_by_dense_newton(n, classes, p, ridge):
    """Primal for p ≤ nC, in the span of the rows beyond."""
    rng = np.random.default_rng(n)
    jacobian, probabilities, labels, queries = random_block(rng, n, classes, p)
    model = block_twin(jacobian, probabilities, labels, queries, ridge)
    subsets = [rng.choice(n, n // 2, replace=False), np.arange(n - 1)]
    for k, weights in enumerate(membership(subsets, n)):
        refitted, stepped = softmax_refit(jacobian, np.log(probabilities), labels, queries, ridge, weights)
        scale = np.abs(refitted).max()
        np.testing.assert_allclose(model.refit(subsets)[k], refitted, atol=1e-9 * scale)
        np.testing.assert_allclose(model.group_newton(subsets)[k], stepped, atol=1e-9 * scale)


def test_two_classes_are_the_margin():
    rng = np.random.default_rng(1)
    jacobian, probabilities, labels, queries = random_block(rng, 12, 2, 9)
    rows = np.arange(12)
    own = probabilities[rows, labels]
    lin = Linearization(jacobian[rows, labels] - jacobian[rows, 1 - labels], own - 1, own * (1 - own), 0.0, queries)
    subsets = [rng.choice(12, 6, replace=False) for _ in range(4)]
    block = block_twin(jacobian, probabilities, labels, queries, 0.3)
    np.testing.assert_allclose(block.refit(subsets), twin(lin, 0.3).refit(subsets), rtol=1e-7)
    flipped = twin(lin, 0.3).relabel(np.zeros(12)).refit(subsets)
    np.testing.assert_allclose(block.relabel(1 - labels).refit(subsets), flipped, rtol=1e-7)


def test_a_sketch_of_full_rank_is_exact():
    rng = np.random.default_rng(2)
    jacobian, probabilities, labels, queries = random_block(rng, 10, 3, 15)
    subsets = [rng.choice(10, 5, replace=False) for _ in range(4)]
    exact = block_twin(jacobian, probabilities, labels, queries, 0.3)
    sketched = block_twin(jacobian, probabilities, labels, queries, 0.3, rank=300, rng=rng)
    assert sketched.captured == pytest.approx(1.0, abs=1e-9)
    np.testing.assert_allclose(sketched.refit(subsets), exact.refit(subsets), atol=1e-7)
    coarse = block_twin(jacobian, probabilities, labels, queries, 0.3, rank=6, rng=rng)
    assert 0.3 < coarse.captured < 0.95


def test_a_sketch_in_which_every_row_cancels_is_refused():
    """One point of two classes: its two rows are opposite, and add up to nothing with equal signs."""
    jacobian = np.array([[[0.0], [1.0]]])
    given = jacobian, np.full((1, 2), 0.5), np.array([1]), np.ones((1, 1)), 0.3
    refused = 0
    for rng in np.random.default_rng(0).spawn(20):
        try:
            block_twin(*given, rank=1, rng=rng)
        except ValueError as error:
            refused += "the 1 signed sums of the gradients all vanish: take a larger rank" in str(error)
    assert 2 < refused < 18


def test_a_sketch_adds_rows_with_signs_of_their_own():
    """Of one dimension, for two points of orthogonal gradients: their mere sum a quarter of the time."""
    jacobian = np.zeros((2, 2, 2))
    jacobian[[0, 1], 1, [0, 1]] = 1.0
    given = jacobian, np.array([[0.3, 0.7], [0.3, 0.7]]), np.array([1, 1]), np.array([[1.0, -1.0]])
    found = [
        np.abs(block_twin(*given, 0.3, rank=1, rng=rng).refit([[0]])).max() > 1e-9
        for rng in np.random.default_rng(0).spawn(60)
    ]
    assert 30 < sum(found) < 58


def test_a_recipe_stands_for_its_training_ridge_and_adam_for_a_ridge_per_parameter():
    rng = np.random.default_rng(4)
    lin = margin(rng, 25, 6)
    recipe = TrainingRecipe(1e-2, 0.1 * np.linspace(1, 0, 40), momentum=0.5)
    subsets = [rng.choice(25, 12, replace=False) for _ in range(3)]
    np.testing.assert_array_equal(twin(lin, recipe).refit(subsets), twin(lin, recipe.ridge(25)).refit(subsets))
    moment = rng.uniform(0.1, 10.0, 6)
    scales, ridge = adam_scales(recipe, moment, 25)
    scaled = twin(replace(lin, features=lin.features * scales, queries=lin.queries * scales), ridge)
    row = membership(subsets, 25)[0]
    share = row.mean()
    hessian = (lin.features.T * row * lin.curvature) @ lin.features + share * np.diag(ridge / scales**2)
    gradient = lin.features.T @ ((row - share) * lin.residual)
    expected = -lin.queries @ np.linalg.solve(hessian, gradient)
    np.testing.assert_allclose(scaled.group_newton(subsets)[0], expected, rtol=1e-8)


def test_saturated_points_without_residual_in_floating_point_have_an_output():
    lin = margin(np.random.default_rng(6), 20, 5)
    residual, curvature = lin.residual.copy(), lin.curvature.copy()
    residual[3] = curvature[3] = 0.0
    found = twin(replace(lin, residual=residual, curvature=curvature), 1.0).refit([np.arange(10), np.arange(4, 20)])
    assert np.isfinite(found).all()
