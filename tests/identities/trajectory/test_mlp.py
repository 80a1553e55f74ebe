"""The network of the studies: gradients of its outputs by complex steps, many trainings at once as one by one."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from simulations.workloads.digits_mlp import everything, he_start, jacobian, margin_gradients, margins, relu_network
from simulations.workloads.subset_training import Optimizer, train
from trak_theory import Linearization, influence
from trak_theory.retraining.ridge_rule import TrainingRecipe, adam_scales


def problem(n=12, inputs=5, hidden=7, classes=3):
    rng = np.random.default_rng(0)
    network = relu_network(rng.standard_normal((n, inputs)), rng.integers(0, classes, n), hidden, classes)
    return network, he_start(network, rng), rng


def test_gradients_of_outputs():
    network, theta, rng = problem()
    direction = rng.standard_normal(network.p)
    logits = network.outputs(theta + 1e-30j * direction, everything(network)).imag / 1e-30
    np.testing.assert_allclose(jacobian(network, theta) @ direction, logits, rtol=1e-12, atol=1e-14)
    step = 1e-6  # central differences: relative error about 1e-9
    ahead, behind = (network.outputs(theta + sign * step * direction, everything(network)) for sign in (1, -1))
    slopes = (margins(ahead, network.labels) - margins(behind, network.labels)) / (2 * step)
    np.testing.assert_allclose(margin_gradients(network, theta) @ direction, slopes, rtol=1e-6, atol=1e-8)


def test_margin_is_the_log_odds_and_its_loss_the_cross_entropy():
    network, theta, _ = problem()
    logits = network.outputs(theta, everything(network))
    own = softmax(logits, axis=1)[everything(network), network.labels]
    found = margins(logits, network.labels)
    np.testing.assert_allclose(found, np.log(own / (1 - own)))
    np.testing.assert_allclose(np.logaddexp(0, -found), network.loss(theta, everything(network)))


@pytest.mark.parametrize(
    "optimizer",
    [
        Optimizer((0.1,) * 9, weight_decay=1e-2, momentum=0.9),
        Optimizer((0.1, 0.05) * 4, batch_size=3),
        Optimizer((0.01,) * 9, weight_decay=0.1, batch_size=4, adam=True, decoupled=True),
    ],
)
def test_many_trainings_at_once_are_those_one_by_one(optimizer):
    network, start, _ = problem()
    subsets = np.array([[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11], [0, 2, 4, 6, 8, 10]])
    together = train(network, start, subsets, optimizer, np.random.default_rng(1), dtype=np.float64).theta
    for row, subset in zip(together, subsets, strict=True):
        alone = train(network, start, subset[None], optimizer, np.random.default_rng(1), dtype=np.float64).theta
        np.testing.assert_allclose(row, alone[0], rtol=1e-9, atol=1e-12)


def test_momentum_by_hand():
    network, start, _ = problem()
    optimizer = Optimizer((0.3, 0.1), weight_decay=0.02, momentum=0.7)
    theta, velocity = start, np.zeros(network.p)
    for rate in optimizer.learning_rates:
        slope = network.gradient(theta, everything(network), np.full(12, 1 / 12))
        velocity = 0.7 * velocity + slope + 0.02 * theta
        theta = theta - rate * velocity
    trained = train(network, start, np.arange(12)[None], optimizer, np.random.default_rng(0), dtype=np.float64)
    np.testing.assert_allclose(trained.theta[0], theta, rtol=1e-10)
    assert trained.second_moment is None


def test_the_second_moment_of_adam_by_hand():
    network, start, _ = problem()
    optimizer = Optimizer((0.01, 0.02), adam=True)
    gradients = []

    class Watched(type(network)):
        def gradient(self, *arguments):
            gradients.append(super().gradient(*arguments)[0])
            return gradients[-1][None]

    network.__class__ = Watched
    found = train(network, start, np.arange(12)[None], optimizer, np.random.default_rng(0), dtype=np.float64)
    expected = (0.001 * gradients[1] ** 2 + 0.999 * 0.001 * gradients[0] ** 2) / (1 - 0.999**2)
    np.testing.assert_allclose(found.second_moment[0], expected, rtol=1e-10)


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
