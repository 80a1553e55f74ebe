"""Two-layer networks: every derivative against complex steps, every rung against a second way to compute it."""

import numpy as np
import pytest
import sympy as sp
from support.networks.shallow_problems import CLASSES, SMOOTH, trained
from support.oracles import refit

from trak_theory import GLM, agreement, influence, leave_one_out, newton
from trak_theory.shallow import (
    RandomFeatures,
    TwoLayer,
    block_influence,
    full_hessian_rungs,
    kernel_machine,
    left_basin,
    linearize,
    linearize_margin,
    margin_kernel_machine,
    retrain,
    shallow_ladder,
    tangent_glm,
)
from trak_theory.shallow import leave_one_out as shallow_leave_one_out
from trak_theory.shallow.activations import as_activation
from trak_theory.shallow.heads import head_for
from trak_theory.shallow.network import Network
from trak_theory.shallow.objective import Objective
from trak_theory.shallow.outputs import LinearOutputs
from trak_theory.shallow.queries import Queries
from trak_theory.shallow.series import tangent_objective
from trak_theory.shallow.solve import cholesky, stationary_point
from trak_theory.shallow.truth import descend, without
from trak_theory.symbolic.notation import a_w, x, z
from trak_theory.symbolic.two_layer import hessian as symbolic_hessian
from trak_theory.symbolic.two_layer import unit_blocks, with_activation

STEP = 1e-30
SYMBOLIC = {
    "tanh": sp.tanh(z),
    "softplus": sp.log(1 + sp.exp(z)),
    "erf": sp.erf(z),
    "gelu": z * (1 + sp.erf(z / sp.sqrt(2))) / 2,
}


def relative(value, expected):
    return np.abs(value - expected).max() / np.abs(expected).max()


def derivative(function, theta, direction):
    """The derivative of a function of θ (B, p) along directions (B, p), by a complex step."""
    return function(theta + 1j * STEP * direction).imag / STEP


def random_objective(activation, loss, *, centred=False, batch=2):
    """An objective with a batch of random parameters, sample weights and directions."""
    rng = np.random.default_rng(3)
    classes = CLASSES if loss == "softmax" else 1
    network = Network(4, 5, classes, as_activation(activation), 1.3)
    start = network.initial(rng)
    targets = np.arange(7) % CLASSES if loss == "softmax" else rng.standard_normal(7)
    outputs = network.on(rng.standard_normal((7, 4)), reference=start if centred else None)
    objective = Objective(outputs, head_for(loss, targets.astype(float)), 0.3, start if centred else 0 * start)
    theta, direction = rng.standard_normal((2, batch, network.parameters))
    return objective, theta, rng.random((batch, 7)), direction


@pytest.mark.parametrize("name", SMOOTH)
def test_activations_have_their_derivatives_and_suprema(name):
    activation = as_activation(name)
    points = np.linspace(-40, 40, 400_001)
    exact = activation.derivatives(points)
    steps = [value.imag / STEP for value in activation.derivatives(points + 1j * STEP)]
    for order in range(3):
        np.testing.assert_allclose(exact[order + 1], steps[order], atol=1e-14)
        # A grid of spacing 2e-4 finds a maximum to about 1e-8.
        assert np.abs(exact[order + 1]).max() == pytest.approx(activation.suprema[order], rel=1e-7)


def test_relu_has_its_slope_almost_everywhere():
    value, slope, second, third = as_activation("relu").derivatives(np.array([-2.0, 3.0]))
    assert (value.tolist(), slope.tolist(), second.tolist(), third.tolist()) == ([0, 3], [0, 1], [0, 0], [0, 0])


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("loss", ["squared", "softmax"])
@pytest.mark.parametrize("centred", [False, True])
def test_gradient_hessian_and_third_derivative_against_complex_steps(name, loss, centred):
    objective, theta, weights, direction = random_objective(name, loss, centred=centred)
    state = objective.at(theta, weights)
    slope = derivative(lambda at: objective.at(at, weights).value, theta, direction)
    assert relative((state.gradient * direction).sum(-1), slope) < 1e-10
    second = derivative(lambda at: objective.at(at, weights).gradient, theta, direction)
    assert relative(state.hvp(direction), second) < 1e-10
    assert relative(objective.hessian(theta[0], weights[0]) @ direction[0], second[0]) < 1e-10
    third = derivative(lambda at: objective.at(at, weights).hvp(direction), theta, direction)
    assert relative(state.third(direction), third) < 1e-10


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("loss", ["squared", "softmax"])
def test_outputs_and_measure_against_complex_steps(name, loss):
    objective, theta, _, direction = random_objective(name, loss)
    outputs, head = objective.outputs, objective.head
    expansion = outputs.at(theta)
    moved = derivative(lambda at: outputs.at(at).value, theta, direction)
    assert relative(expansion.jvp(direction), moved) < 1e-10
    assert relative(outputs.jacobian(theta[0]) @ direction[0], moved[0]) < 1e-10
    second = derivative(lambda at: outputs.at(at).jvp(direction), theta, direction)
    assert relative(expansion.quadratic(direction), second) < 1e-10
    queries = Queries(outputs, head)
    slope = derivative(queries.value, theta, direction)
    assert relative(queries.gradient(theta[0]) @ direction[0], slope[0]) < 1e-10
    # ∇g·v is a real function of θ: its own derivative, by central differences at their best step.
    one, two = (queries.gradient(theta[0] + s * 1e-5 * direction[0]) @ direction[0] for s in (1, -1))
    assert relative(queries.curvature_along(theta[0], direction[:1])[0], (one - two) / 2e-5) < 1e-8


@pytest.mark.parametrize("name", SMOOTH)
def test_activation_derivatives_equal_the_symbolic_blocks_of_a_unit(name):
    points, outer = np.linspace(-4, 4, 33), 1.7
    _, slope, second, _ = as_activation(name).derivatives(points)
    for block, expected in (("d2f/dadw", slope), ("d2f/dwdw", outer * second)):
        symbolic = with_activation(unit_blocks()[block].subs(x, 1), SYMBOLIC[name])
        np.testing.assert_allclose(sp.lambdify([a_w, z], symbolic, "scipy")(outer, points), expected, atol=1e-13)


@pytest.mark.parametrize("name", ["tanh", "softplus", "erf"])  # the numpy printer of the derivation has no erf
def test_numeric_hessian_blocks_equal_the_symbolic_ones(name):
    objective, theta, _, _ = random_objective(name, "squared")
    network, rows = objective.outputs.network, objective.outputs.rows
    hidden, weights, shift = network.split(theta[0])
    parts = (weights[0], hidden[:, :-1], hidden[:, -1], shift[0])
    m, d = network.width, network.inputs
    # symbolic order (a, W, b, c) → θ order ([W b] row by row, a, c)
    inner = [[m + j * d + k for k in range(d)] + [m + m * d + j] for j in range(m)]
    order = np.r_[np.concatenate(inner), np.arange(m), m * (d + 2)].astype(int)
    for i, row in enumerate(rows):
        expected = network.scale * symbolic_hessian(parts, row[:-1], SYMBOLIC[name])[np.ix_(order, order)]
        np.testing.assert_allclose(
            objective.outputs.weighted_hessian(theta[0], np.eye(len(rows))[:, [i]]), expected, atol=1e-13
        )


def test_softmax_loss_is_the_logistic_loss_of_its_margin():
    objective, theta, _, _ = random_objective("tanh", "softmax")
    f = objective.outputs.at(theta).value
    np.testing.assert_allclose(
        objective.head.value(f), np.logaddexp(0, -objective.head.measure(f)), rtol=1e-13, atol=1e-15
    )


@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("condition", [1e2, 1e6])
def test_a_linear_model_takes_the_glm_path(loss, condition):
    """The solvers of the networks on a model linear in θ, against the solvers of the GLM: 1e-12 where λ_max/λ_min
    of the Hessian is at most `condition`."""
    rng = np.random.default_rng(5)
    features = RandomFeatures.draw(3, 12, rng=rng, spread=3.0).features(rng.standard_normal((60, 3)))
    targets = rng.standard_normal(60) if loss == "squared" else (rng.random(60) < 0.5).astype(float)
    ridge = np.linalg.norm(features, 2) ** 2 / condition
    glm = GLM(features, targets, loss=loss, ridge=ridge)
    fit, queries = glm.fit(), RandomFeatures.draw(3, 12, rng=rng).features(rng.standard_normal((5, 3)))
    objective = Objective(LinearOutputs(features[:, None, :]), head_for(loss, targets), ridge, np.zeros(13))
    theta = stationary_point(objective, np.zeros(13), np.ones(60))
    assert relative(features @ theta, fit.outputs) < 1e-12
    found = descend(objective, theta, cholesky(objective.hessian(theta, np.ones(60))), np.arange(60), tol=1e-13)
    exact = leave_one_out(fit, queries, tol=1e-14).influence
    assert relative((theta - np.stack(found)) @ queries.T, exact) < 1e-12


def test_random_features_are_a_frozen_first_layer():
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((20, 3))
    layer = RandomFeatures.draw(3, 6, activation="erf", rng=rng)
    theta = layer.network.join(layer.hidden, rng.standard_normal((1, 6)), rng.standard_normal(1))
    weights, shift = theta[-7:-1], theta[-1]
    whole = layer.network.on(inputs).at(theta[None]).value[0, :, 0]
    np.testing.assert_allclose(layer.features(inputs) @ np.r_[np.sqrt(6) * weights, shift], whole, atol=1e-13)
    glm = layer.glm(inputs, rng.standard_normal(20), ridge=0.5)
    assert np.all(glm.ridge == 0.5)


@pytest.mark.parametrize("loss", ["squared", "logistic", "softmax"])
def test_leave_one_out_is_a_stationary_point_without_the_point(loss):
    fit, queries = trained(0, loss=loss)
    truth = shallow_leave_one_out(fit, queries)
    assert truth.unresolved == {}
    assert np.all(truth.smallest_eigenvalue > 0)
    net = fit.model.network
    for i in (0, 7, 20):
        # The gradient by hand: a loop over the points that remain.
        hidden, weights, shift = net.split(truth.theta[i])
        total = fit.model.ridge * truth.theta[i]
        for j in set(range(40)) - {i}:
            row = np.append(fit.model.inputs[j], 1.0)
            s = np.tanh(hidden @ row)
            f = weights @ s + shift
            y = fit.model.head.targets[j]
            r = f - y if loss == "squared" else 1 / (1 + np.exp(-f)) - y
            if loss == "softmax":
                r = np.exp(f) / np.exp(f).sum() - (np.arange(CLASSES) == y)
            total = total + net.join(np.outer((weights.T @ r) * (1 - s**2), row), np.outer(r, s), r)
        assert np.linalg.norm(total) < 1e-10
    expected = queries.value(fit.theta[None]) - queries.value(truth.theta)
    np.testing.assert_array_equal(truth.influence, expected)


def test_rows_are_the_rows_of_the_whole():
    fit, queries = trained(1)
    whole, some = shallow_leave_one_out(fit, queries), shallow_leave_one_out(fit, queries, rows=np.array([31, 4]))
    np.testing.assert_allclose(some.influence, whole.influence[[31, 4]], rtol=1e-8, atol=1e-12)
    assert np.all(np.abs(some.influence - whole.influence[[31, 4]]) <= some.radius + whole.radius[[31, 4]])


def test_progress_sees_every_row():
    fit, queries = trained(1)
    seen = []

    def bar(rows):
        for row in rows:
            seen.append(int(row))
            yield row

    shallow_leave_one_out(fit, queries, rows=np.array([3, 1]), progress=bar)
    retrain(fit, queries, rows=np.array([2]), progress=bar)
    assert seen == [3, 1, 2]


def test_retraining_agrees_where_there_is_one_basin_and_not_where_there_are_more():
    """Little data, many units and a small ridge have many basins; a large ridge has one."""
    fit, queries = trained(2, ridge=8.0)
    warm, again = shallow_leave_one_out(fit, queries), retrain(fit, queries)
    assert not left_basin(warm, again).any()
    assert agreement(warm.influence, again.influence).relative_error < 1e-8
    fit, queries = trained(2, ridge=0.05, width=10)
    rows = np.arange(0, 40, 4)
    warm, again = shallow_leave_one_out(fit, queries, rows=rows), retrain(fit, queries, rows=rows)
    assert left_basin(warm, again).any()


def test_training_again_from_the_start_is_the_fit():
    fit, _ = trained(2)
    again = stationary_point(fit.objective, fit.start, np.ones(40))
    assert np.linalg.norm(again - fit.theta) <= 2 * fit.certificate.radius


@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("centre", ["zero", "initial"])
def test_the_kernel_machine_has_its_minimum_at_the_network_and_two_ways_to_leave_one_out(loss, centre):
    fit, queries = trained(3, loss=loss, centre=centre)
    glm = tangent_glm(fit)
    np.testing.assert_allclose(glm.fit().coef, fit.theta - fit.objective.centre, atol=1e-9)
    flat = tangent_objective(fit)
    solve = cholesky(flat.hessian(fit.theta, np.ones(40)))
    found = np.stack(descend(flat, fit.theta, solve, np.arange(40), tol=1e-12))
    linear = queries.linear(fit.theta)
    assert relative(linear.value(fit.theta[None]) - linear.value(found), kernel_machine(fit, queries)) < 1e-9
    # One point by an independent refit, in the coordinates of the GLM.
    if loss == "squared":
        moved = fit.theta - fit.objective.centre - refit(shifted_targets(glm), 5, glm.fit().coef)
        np.testing.assert_allclose(queries.gradient(fit.theta) @ moved, kernel_machine(fit, queries)[5], atol=1e-9)


def shifted_targets(glm):
    """The same squared-loss problem with the offset moved into the targets, for the oracle."""
    return GLM(glm.features, glm.targets - glm.loss.offset, loss="squared", ridge=glm.ridge)


@pytest.mark.parametrize("loss", ["squared", "softmax"])
def test_gauss_newton_rungs_against_dense_matrices(loss):
    fit, queries = trained(4, loss=loss)
    block = linearize(fit, queries)
    gradient = queries.gradient(fit.theta)
    pushes = np.einsum("nc,ncp->np", fit.model.head.residual(fit.outputs), fit.objective.outputs.jacobian(fit.theta))
    matrix = fit.objective.gauss_newton(fit.theta, np.ones(40))
    assert relative(block_influence(block), -pushes @ np.linalg.solve(matrix, gradient.T)) < 1e-10
    step = np.stack(
        [np.linalg.solve(fit.objective.gauss_newton(fit.theta, without(40, i)), pushes[i]) for i in range(40)]
    )
    assert relative(block.newton(), -step @ gradient.T) < 1e-10
    full = full_hessian_rungs(fit, queries)
    assert relative(full["influence, full Hessian"], -pushes @ np.linalg.solve(fit.hessian, gradient.T)) < 1e-10
    hessians = [fit.objective.hessian(fit.theta, without(40, i)) for i in range(40)]
    definite = np.array([np.linalg.eigvalsh(hessian)[0] > 0 for hessian in hessians])
    step = np.stack([np.linalg.solve(hessian, push) for hessian, push in zip(hessians, pushes, strict=True)])
    np.testing.assert_array_equal(np.isfinite(full["newton, full Hessian"]).all(1), definite)
    assert relative(full["newton, full Hessian"][definite], -(step @ gradient.T)[definite]) < 1e-8


def test_with_one_output_the_block_is_the_linearisation():
    fit, queries = trained(4, loss="logistic")
    block = linearize(fit, queries)
    glm_lin = tangent_glm(fit).fit().linearize(queries.gradient(fit.theta))
    assert relative(block.newton(), newton(glm_lin)) < 1e-8
    assert relative(block_influence(block), influence(glm_lin)) < 1e-8


def test_with_two_classes_margin_and_block_are_the_same_model():
    """The margin of two classes is the difference of the logits, linear in them: every rung below must agree."""
    inputs, targets, query_inputs, query_targets = two_classes(0)
    model = TwoLayer(inputs, targets, width=4, loss="softmax", ridge=1.0)
    fit = model.fit(model.initial(np.random.default_rng(0)))
    queries = fit.at(query_inputs, query_targets)
    assert relative(margin_kernel_machine(fit, queries), kernel_machine(fit, queries)) < 1e-8
    margin = linearize_margin(fit, queries)
    assert relative(newton(margin), linearize(fit, queries).newton()) < 1e-9
    assert relative(influence(margin), block_influence(linearize(fit, queries))) < 1e-9


def two_classes(seed):
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((46, 3))
    labels = (inputs[:, 0] + 0.5 * rng.standard_normal(46) > 0).astype(float)
    return inputs[:40], labels[:40], inputs[40:], labels[40:]


@pytest.mark.parametrize("output", ["block", "margin"])
def test_the_ladder_is_ordered_and_shares_its_projections(output):
    fit, queries = trained(5, loss="softmax", ridge=2.0)
    truth = shallow_leave_one_out(fit, queries)
    settings = {"k": 10, "ridge": 0.5, "output": output, "truth": truth}
    one, again = (shallow_ladder(fit, queries, ensemble=1, **settings, rng=np.random.default_rng(0)) for _ in range(2))
    assert list(one.rungs) == [
        "exact",
        "linear output",
        "kernel machine",
        "newton",
        "influence",
        "unit curvature",
        "no ridge",
        "projected",
        "ensemble",
    ]
    for name, rung in one.rungs.items():
        np.testing.assert_array_equal(rung, again.rungs[name])
    np.testing.assert_array_equal(one.rungs["projected"], one.rungs["ensemble"])
    assert one.truth is truth
    assert len(one.table()) == 15
