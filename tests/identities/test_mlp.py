"""The numpy network of the studies: gradients by finite differences, many trainings at once as one by one."""

from dataclasses import replace

import numpy as np
import pytest

from simulations.workloads.mlp import Network, Optimizer, cross_entropy, initial_network, loss_gradient, train
from trak_theory import Linearization, influence
from trak_theory.retraining.ridge_rule import TrainingRecipe, adam_scales

STEP = 1e-6  # central differences in double precision: relative error about 1e-9


def problem(n=12, inputs=5, hidden=7, classes=3):
    rng = np.random.default_rng(0)
    network = initial_network(inputs, hidden, classes, rng)
    return network, rng.standard_normal((n, inputs)), rng.integers(0, classes, n), rng


def derivative(network, direction, function):
    def moved(sign):
        return Network(*(a + sign * STEP * d for a, d in zip(network.parts, direction, strict=True)))

    return (function(moved(1)) - function(moved(-1))) / (2 * STEP)


def test_gradients_per_sample():
    network, inputs, labels, rng = problem()
    direction = [rng.standard_normal(part.shape) for part in network.parts]
    flat = np.concatenate([part.ravel() for part in direction])
    margins = derivative(network, direction, lambda net: net.margins(inputs, labels))
    np.testing.assert_allclose(network.margin_gradients(inputs, labels) @ flat, margins, rtol=1e-6, atol=1e-8)
    logits = derivative(network, direction, lambda net: net.logits(inputs))
    np.testing.assert_allclose(network.jacobian(inputs) @ flat, logits, rtol=1e-6, atol=1e-8)


def test_margin_is_the_log_odds_and_its_loss_the_cross_entropy():
    network, inputs, labels, _ = problem()
    own = network.probabilities(inputs)[np.arange(len(labels)), labels]
    margins = network.margins(inputs, labels)
    np.testing.assert_allclose(margins, np.log(own / (1 - own)))
    one_hot = np.eye(3)[labels]
    assert np.mean(np.logaddexp(0, -margins)) == pytest.approx(cross_entropy(network, inputs, one_hot))


def test_loss_gradient():
    network, inputs, labels, rng = problem()
    one_hot = np.eye(3)[labels]
    gradient = loss_gradient(network, inputs, one_hot)
    direction = [rng.standard_normal(part.shape) for part in network.parts]
    slope = derivative(network, direction, lambda net: cross_entropy(net, inputs, one_hot))
    found = sum(np.sum(a * d) for a, d in zip(gradient.parts, direction, strict=True))
    assert found == pytest.approx(float(slope), rel=1e-6)


@pytest.mark.parametrize(
    "optimizer",
    [
        Optimizer((0.1,) * 9, weight_decay=1e-2, momentum=0.9),
        Optimizer((0.1, 0.05) * 4, batch_size=3),
        Optimizer((0.01,) * 9, weight_decay=0.1, batch_size=4, adam=True, decoupled=True),
    ],
)
def test_many_trainings_at_once_are_those_one_by_one(optimizer):
    network, inputs, labels, _ = problem()
    subsets = np.array([[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11], [0, 2, 4, 6, 8, 10]])
    settings = {"dtype": np.float64}
    together = train(network, inputs, labels, subsets, optimizer, np.random.default_rng(1), **settings).networks
    for index, subset in enumerate(subsets):
        alone = train(network, inputs, labels, subset[None], optimizer, np.random.default_rng(1), **settings).networks
        for a, b in zip(together[index].parts, alone[0].parts, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_momentum_by_hand():
    network, inputs, labels, _ = problem()
    optimizer = Optimizer((0.3, 0.1), weight_decay=0.02, momentum=0.7)
    one_hot = np.eye(3)[labels]
    weights, velocity = list(network.parts), [np.zeros_like(part) for part in network.parts]
    for rate in optimizer.learning_rates:
        slopes = loss_gradient(Network(*weights), inputs, one_hot).parts
        velocity = [0.7 * v + g + 0.02 * w for v, g, w in zip(velocity, slopes, weights, strict=True)]
        weights = [w - rate * v for w, v in zip(weights, velocity, strict=True)]
    trained = train(network, inputs, labels, np.arange(12)[None], optimizer, np.random.default_rng(0), dtype=np.float64)
    for expected, found in zip(weights, trained.networks[0].parts, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert trained.second_moment is None


def test_coordinates_of_adam_are_a_ridge_per_parameter():
    """−r φᵀ(ΦᵀDΦ + diag λ_a)⁻¹φ*, by dense algebra."""
    rng = np.random.default_rng(3)
    n, p, recipe = 20, 8, TrainingRecipe(0.05, [0.01, 0.02, 0.03])
    lin = Linearization(
        rng.standard_normal((n, p)), rng.standard_normal(n), rng.random(n), 0.0, rng.standard_normal((3, p))
    )
    moment = rng.lognormal(0, 2, p)
    for decoupled in (True, False):
        decay = 0.05 * (np.sqrt(moment) if decoupled else 1.0)
        ridges = n * (decay + np.sqrt(moment) / 0.06)
        hessian = (lin.features.T * lin.curvature) @ lin.features + np.diag(ridges)
        expected = -lin.residual[:, None] * (lin.features @ np.linalg.solve(hessian, lin.queries.T))
        scales, ridge = adam_scales(recipe, moment, n, decoupled=decoupled)
        scaled = replace(lin, features=lin.features * scales, queries=lin.queries * scales)
        assert ridge == pytest.approx(np.median(ridges))
        np.testing.assert_allclose(influence(replace(scaled, ridge=ridge)), expected, rtol=1e-8, atol=1e-12)


def test_parameters_that_adam_never_moved_do_not_matter():
    recipe, moment = TrainingRecipe(0.0, [0.1]), np.array([0.3, 0.1, 0.7, 0.2, 0.5])
    scales, ridge = adam_scales(recipe, moment, 10)
    padded, same = adam_scales(recipe, np.r_[0.0, moment], 10)
    assert ridge == same
    np.testing.assert_array_equal(padded, np.r_[0.0, scales])
    with pytest.raises(ValueError, match="0 for every parameter"):
        adam_scales(recipe, np.zeros(6), 10)
    with pytest.raises(ValueError, match="second_moment"):
        adam_scales(recipe, -moment, 10)
