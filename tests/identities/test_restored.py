"""Restored influence against dense linear algebra, its primal against its dual, two classes against the margin."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.networks.random_networks import random_block, random_linearization
from support.problems import seeds

from trak_theory import Linearization, influence
from trak_theory.numerics.spectrum import spectrum
from trak_theory.retraining.restored import restored_block_influence, restored_influence, weighted
from trak_theory.retraining.ridge_rule import TrainingRecipe, ridge_rule

RECIPE = TrainingRecipe(weight_decay=1e-2, learning_rates=0.1, steps=50, momentum=0.5)


@given(seed=seeds, n=st.integers(3, 25), p=st.integers(2, 25), fraction=st.sampled_from([None, 0.5, 0.25]))
def test_margin_form_is_the_influence_at_the_ridge_of_the_rule(seed, n, p, fraction):
    lin = random_linearization(np.random.default_rng(seed), n, p)
    ridge = ridge_rule(lin, RECIPE, fraction=fraction).curvature_weighted
    hessian = (lin.features.T * lin.curvature) @ lin.features + ridge * np.eye(p)
    expected = -lin.residual[:, None] * (lin.features @ np.linalg.solve(hessian, lin.queries.T))
    found = restored_influence(lin, RECIPE, fraction=fraction)
    np.testing.assert_allclose(found, expected, atol=1e-10 * np.abs(expected).max())
    np.testing.assert_allclose(influence(replace(lin, ridge=ridge)), expected, atol=1e-10 * np.abs(expected).max())


@given(seed=seeds, n=st.integers(3, 20), p=st.integers(2, 20))
def test_coordinates_of_the_spectrum_keep_kernel_and_leverage(seed, n, p):
    lin = replace(random_linearization(np.random.default_rng(seed), n, p), ridge=0.3)
    small = weighted(spectrum(lin.features, lin.queries), lin.residual, lin.curvature, 0.3)
    assert small.features.shape[1] <= min(n, p)
    np.testing.assert_allclose(small.cross, lin.cross, atol=1e-10 * np.abs(lin.cross).max())
    np.testing.assert_allclose(small.leverage, lin.leverage, atol=1e-10)


@given(seed=seeds, n=st.integers(2, 8), classes=st.integers(2, 5), p=st.integers(2, 40))
def test_block_form_by_dense_sums(seed, n, classes, p):
    """Primal for p ≤ nC, dual beyond."""
    jacobian, probabilities, labels, queries = random_block(np.random.default_rng(seed), n, classes, p)
    hessian = RECIPE.ridge(n) * np.eye(p)
    gradients = np.zeros((n, p))
    for i in range(n):
        block = np.diag(probabilities[i]) - np.outer(probabilities[i], probabilities[i])
        hessian += jacobian[i].T @ block @ jacobian[i]
        gradients[i] = jacobian[i].T @ (probabilities[i] - np.eye(classes)[labels[i]])
    expected = -gradients @ np.linalg.solve(hessian, queries.T)
    found = restored_block_influence(jacobian, probabilities, labels, queries, RECIPE)
    np.testing.assert_allclose(found, expected, atol=1e-10 * np.abs(expected).max())


def test_parameters_that_nothing_uses_change_nothing():
    """Zero columns take the same numbers from the primal to the dual."""
    rng = np.random.default_rng(0)
    jacobian, probabilities, labels, queries = random_block(rng, 6, 3, 10)
    wide = [np.concatenate([a, np.zeros((*a.shape[:-1], 50))], axis=-1) for a in (jacobian, queries)]
    for fraction in (None, 0.5):
        primal = restored_block_influence(jacobian, probabilities, labels, queries, RECIPE, fraction=fraction)
        dual = restored_block_influence(wide[0], probabilities, labels, wide[1], RECIPE, fraction=fraction)
        np.testing.assert_allclose(dual, primal, atol=1e-10 * np.abs(primal).max())


@pytest.mark.parametrize("fraction", [None, 0.5])
def test_two_classes_are_the_margin(fraction):
    """C = 2: the block is the curvature of the one margin log π_y/(1 − π_y), and so is the rule."""
    rng = np.random.default_rng(1)
    jacobian, probabilities, labels, queries = random_block(rng, 12, 2, 9)
    rows = np.arange(12)
    own = probabilities[rows, labels]
    margin = Linearization(jacobian[rows, labels] - jacobian[rows, 1 - labels], own - 1, own * (1 - own), 0.0, queries)
    block = restored_block_influence(jacobian, probabilities, labels, queries, RECIPE, fraction=fraction)
    np.testing.assert_allclose(block, restored_influence(margin, RECIPE, fraction=fraction), rtol=1e-9)


def test_a_certain_prediction_has_no_influence():
    rng = np.random.default_rng(2)
    jacobian, probabilities, labels, queries = random_block(rng, 5, 3, 7)
    probabilities[0] = np.eye(3)[labels[0]]
    found = restored_block_influence(jacobian, probabilities, labels, queries, RECIPE, fraction=0.5)
    assert np.all(found[0] == 0)
    assert np.all(np.isfinite(found))


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (1, np.ones((5, 3)), "a row is 2 off"),
        (1, np.ones((5, 2)) / 2, r"shape \(5, 2\), the jacobian says \(5, 3\)"),
        (2, np.array([0, 1, 2, 3, 0]), "labels span"),
        (2, np.zeros(5), "labels must be 5 integers"),
        (3, np.zeros((2, 8)), "queries have width 8, the features have p = 7"),
    ],
)
def test_wrong_blocks_are_refused(place, value, message):
    arguments = list(random_block(np.random.default_rng(3), 5, 3, 7))
    arguments[place] = value
    with pytest.raises(ValueError, match=message):
        restored_block_influence(*arguments, RECIPE)
