"""Exact identities of runs, step maps, sweeps and truths, each against an independent slow twin."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax
from support.networks.trajectories import (
    OPTIMIZERS,
    decaying,
    derivative_of_run,
    epochs,
    queries,
    replayed_end,
    small_glm,
    small_network,
    small_run,
    start,
    without,
)

from trak_theory.trajectory import SGD, AdamW, Query, attribute, forward, loss_query, retrain_without, train

STEP = 1e-30
ESTIMATORS = ("two-step", "frozen-push", "exact-push", "hybrid", "first-order", "sgd")
OBJECTIVES = {
    "network": small_network(),
    "deep network": small_network(hidden=(4, 3)),
    "linear network": small_network(hidden=()),
    **{f"{name} network": small_network(hidden=(4, 3), activation=name) for name in ("gelu", "relu", "leaky-relu")},
    **{f"{loss} GLM": small_glm(loss=loss) for loss in ("squared", "logistic", "poisson", "huber")},
}
every_objective = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
both_removals = pytest.mark.parametrize("removal", ["keep", "renormalise"])
BATCH, WEIGHTS = np.array([3, 0, 7, 3]), np.array([0.3, 1.0, 0.0, 0.5])


def close(actual, expected, tol=1e-10):
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tol * scale)


# --- objectives ------------------------------------------------------------------------------------------------------


def test_the_network_loss_is_the_cross_entropy_of_its_layers():
    net = small_network(hidden=(4, 3))
    theta, at, activation = start(net), 0, net.features[BATCH]
    for width, out in ((5, 4), (4, 3), (3, 3)):
        weight = theta[at : at + out * width].reshape(out, width)
        bias = theta[at + out * width : at + out * width + out]
        at += out * width + out
        z = activation @ weight.T + bias
        activation = np.tanh(z)
    assert at == net.p
    close(net.loss(theta, BATCH), -log_softmax(z, axis=1)[np.arange(4), net.labels[BATCH]], 1e-14)


@every_objective
def test_gradients_are_the_derivative_of_the_loss(objective):
    theta, directions = start(objective), queries(objective).T
    derivative = objective.loss(theta + 1j * STEP * directions, BATCH).imag / STEP
    close(directions @ objective.sample_gradients(theta, BATCH).T, derivative, 1e-13)
    close(directions @ objective.gradient(theta, BATCH, WEIGHTS), derivative @ WEIGHTS, 1e-13)


@every_objective
def test_hessian_products_are_the_derivative_of_the_gradient(objective):
    theta, directions = start(objective), queries(objective).T
    moved = objective.gradient(theta + 1j * STEP * directions, BATCH, WEIGHTS).imag / STEP
    close(objective.hvp(theta, BATCH, WEIGHTS, directions), moved, 1e-13)


@every_objective
def test_leading_axes_of_the_gradient_are_models(objective):
    thetas = np.stack([start(objective, seed) for seed in range(4)]).reshape(2, 2, -1)
    weights = np.random.default_rng(0).random((2, 2, len(BATCH)))
    gradients = objective.gradient(thetas, BATCH, weights)
    for index in np.ndindex(2, 2):
        close(gradients[index], objective.gradient(thetas[index], BATCH, weights[index]), 1e-13)
        close(objective.loss(thetas, BATCH)[index], objective.loss(thetas[index], BATCH), 1e-13)


@pytest.mark.parametrize("hidden", [(4,), (4, 3), ()])
def test_the_gauss_newton_product_is_jacobian_curvature_jacobian(hidden):
    net = small_network(hidden=hidden)
    theta, directions = start(net), queries(net).T
    units = theta + 1j * STEP * np.eye(net.p)
    jacobian = np.moveaxis(net.outputs(units, BATCH).imag / STEP, 0, -1)  # (B, classes, p)
    z = net.outputs(theta, BATCH)
    probability = np.exp(log_softmax(z, axis=1))
    matrix = np.zeros((net.p, net.p))
    for weight, p, rows in zip(WEIGHTS, probability, jacobian, strict=True):
        matrix += weight * rows.T @ (np.diag(p) - np.outer(p, p)) @ rows
    close(net.ggn(theta, BATCH, WEIGHTS, directions), directions @ matrix, 1e-12)


# --- step maps -------------------------------------------------------------------------------------------------------


def random_moment(optimizer, p=11, seed=0):
    """A state after a few steps, and a gradient; clipping and AMSGrad are at work in some coordinates."""
    rng = np.random.default_rng(seed)
    state = optimizer.start(rng.standard_normal(p))
    for t in range(3):
        state = optimizer.at(t, state[0])(state, (3 - t) * rng.standard_normal(p))
    return state, rng.standard_normal(p), optimizer.at(3, state[0]), rng


@every_optimizer
def test_tangents_are_the_derivative_of_the_step(optimizer):
    state, gradient, step, rng = random_moment(optimizer)
    dstate = tuple(rng.standard_normal((2, 11)) for _ in state)
    dgradient = rng.standard_normal((2, 11))
    moved = step(
        tuple(x + 1j * STEP * dx for x, dx in zip(state, dstate, strict=True)), gradient + 1j * STEP * dgradient
    )
    for tangent, part in zip(step.tangent(state, gradient, dstate, dgradient), moved, strict=True):
        close(tangent, part.imag / STEP, 1e-13)


@every_optimizer
def test_adjoints_are_transposes_of_tangents(optimizer):
    state, gradient, step, rng = random_moment(optimizer)
    dstate, cotangent = ([rng.standard_normal(11) for _ in state] for _ in range(2))
    dgradient = rng.standard_normal(11)
    tangent = step.tangent(state, gradient, tuple(dstate), dgradient)
    before, slope = step.adjoint(state, gradient, tuple(cotangent))
    forwards = sum(a @ b for a, b in zip(cotangent, tangent, strict=True))
    backwards = sum(a @ b for a, b in zip(before, dstate, strict=True)) + slope @ dgradient
    assert forwards == pytest.approx(backwards, rel=1e-12)


def test_the_test_optimisers_clip_at_some_steps_only():
    for name in ("sgd clipped", "adamw clipped"):
        run = small_run(small_network(), OPTIMIZERS[name])
        lengths = [
            np.linalg.norm(run.objective.gradient(run.state(t)[0], batch, run.weights(t)))
            for t, batch in enumerate(run.batches)
        ]
        active = np.array(lengths) > run.optimizer.clip_norm
        assert 0 < active.sum() < len(active)


# --- runs ------------------------------------------------------------------------------------------------------------


def plain_run(objective, theta, batches, kind, options, groups, schedule, clip_norm):
    """torch.optim's documented pseudo-code, coordinate by coordinate; groups (coordinates, settings) cover θ."""
    theta = [float(x) for x in theta]
    memory = [{} for _ in theta]
    for t, batch in enumerate(batches):
        gradient = objective.gradient(np.array(theta), batch, np.full(len(batch), 1 / len(batch)))
        if clip_norm is not None:
            gradient = gradient * min(1.0, clip_norm / (np.sqrt(np.sum(gradient**2)) + 1e-6))
        for where, settings in groups:
            own = {**options, **settings}
            rate = own["lr"] * schedule(t)
            for j in np.arange(len(theta))[where]:
                update = plain_sgd if kind == "SGD" else plain_adam
                theta[j] = update(kind, theta[j], gradient[j], memory[j], rate, own, t + 1)
    return np.array(theta)


def plain_sgd(kind, x, g, memory, rate, own, step):
    g = g + own["weight_decay"] * x
    if own["momentum"] != 0:
        if "buffer" in memory:
            memory["buffer"] = own["momentum"] * memory["buffer"] + (1 - own["dampening"]) * g
        else:
            memory["buffer"] = g
        g = g + own["momentum"] * memory["buffer"] if own["nesterov"] else memory["buffer"]
    return x - rate * g


def plain_adam(kind, x, g, memory, rate, own, step):
    if kind == "AdamW":
        x = x - rate * own["weight_decay"] * x
    else:
        g = g + own["weight_decay"] * x
    beta1, beta2 = own["betas"]
    memory["m"] = beta1 * memory.get("m", 0.0) + (1 - beta1) * g
    memory["v"] = beta2 * memory.get("v", 0.0) + (1 - beta2) * g**2
    memory["largest"] = max(memory.get("largest", 0.0), memory["v"])
    second = memory["largest"] if own["amsgrad"] else memory["v"]
    return x - rate * (memory["m"] / (1 - beta1**step)) / (np.sqrt(second / (1 - beta2**step)) + own["eps"])


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "adamw inside"])
def test_runs_follow_the_pseudo_code_of_torch(name):
    objective, optimizer = small_network(), OPTIMIZERS[name]
    run = small_run(objective, optimizer)
    kind = type(optimizer).__name__
    names = ("momentum", "dampening", "nesterov") if kind == "SGD" else ("betas", "eps", "amsgrad")
    options = {key: getattr(optimizer, key) for key in (*names, "lr", "weight_decay")}
    covered = np.zeros(objective.p, bool)
    for where, _ in optimizer.groups:
        covered[where] = True
    groups = [(~covered, {}), *optimizer.groups]
    schedule = optimizer.rate
    final = plain_run(objective, run.state(0)[0], run.batches, kind, options, groups, schedule, optimizer.clip_norm)
    close(run.final, final, 1e-12)


@every_optimizer
def test_replayed_states_are_the_stored_ones_bit_by_bit(optimizer, tmp_path):
    objective = small_network()
    stored = small_run(objective, optimizer)
    for every, directory in ((4, None), (5, tmp_path / "states"), (100, None)):
        replayed = small_run(objective, optimizer, every=every, directory=directory)
        for t in (12, 3, 0, 7, 11, 5, 4):
            for a, b in zip(stored.state(t), replayed.state(t), strict=True):
                assert np.array_equal(a, b)
        assert np.array_equal(
            attribute(stored, queries(objective)).influence, attribute(replayed, queries(objective)).influence
        )


def test_a_run_keeps_the_precision_of_its_start():
    net = small_network()
    for dtype in (np.float32, np.float64):
        for optimizer in OPTIMIZERS.values():
            run = train(net, start(net).astype(dtype), epochs(net, 6, 1), optimizer)
            assert all(part.dtype == dtype for part in run.state(run.steps))


# --- the sweep -------------------------------------------------------------------------------------------------------


@both_removals
@every_optimizer
@pytest.mark.parametrize("objective", [small_network(), small_glm()], ids=["network", "GLM"])
def test_the_first_order_sweep_is_the_derivative_of_the_whole_run(objective, optimizer, removal):
    run, columns = small_run(objective, optimizer), queries(objective)
    influence = attribute(run, columns, estimator="first-order", removal=removal).influence
    for sample in (0, 5, 17):
        close(influence[sample], derivative_of_run(run, sample, removal) @ columns)


@both_removals
def test_the_derivative_of_one_occurrence_is_its_row(removal):
    net = small_network()
    run, columns = small_run(net, OPTIMIZERS["adamw"]), queries(net)
    each = attribute(run, columns, estimator="first-order", removal=removal, occurrences="each")
    assert len(each.steps) == run.steps * 6
    for row in (0, 7, 40, 71):
        exact = derivative_of_run(run, each.samples[row], removal, steps=[each.steps[row]]) @ columns
        close(each.influence[row], exact)


def test_a_nonlinear_query_is_read_through_its_gradient():
    net = small_network()
    run, query = small_run(net, OPTIMIZERS["adamw"]), loss_query(small_network(5), np.arange(4))
    slope = query.slope(run.final)
    influence = attribute(run, query, estimator="first-order").influence
    for sample in (2, 9):
        close(influence[sample], slope @ derivative_of_run(run, sample, "keep"))
    single = Query(lambda theta: float(theta @ theta), lambda theta: 2 * theta)
    assert attribute(run, single).influence.shape == (net.n, 1)
    close(attribute(run, single).influence[:, 0], attribute(run, 2 * run.final).influence[:, 0])


@both_removals
@every_optimizer
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_forward_and_reverse_agree(optimizer, estimator, removal):
    net = small_network()
    run, columns = small_run(net, optimizer), queries(net)
    reverse = attribute(run, columns, estimator=estimator, removal=removal).influence
    samples = np.array([4, 0, 21])
    close(-forward(run, samples, estimator=estimator, removal=removal) @ columns, reverse[samples])


@pytest.mark.parametrize("curvature", ["exact", "ggn", "none"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_forward_and_reverse_agree_for_every_curvature_and_damping(estimator, curvature):
    net = small_network()
    run, columns = small_run(net, OPTIMIZERS["adamw"]), queries(net)
    settings = {"estimator": estimator, "curvature": curvature, "damping": 0.7}
    reverse = attribute(run, columns, **settings).influence
    close(-forward(run, range(24), **settings) @ columns, reverse)


@both_removals
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_repeated_samples_of_a_batch_are_removed_together(estimator, removal):
    net = small_network()
    batches = [np.array([1, 2, 2, 3]), np.array([2, 4, 1, 1])]
    run, columns = train(net, start(net), batches, OPTIMIZERS["adamw"]), queries(net)
    influence = attribute(run, columns, estimator=estimator, removal=removal).influence
    if estimator == "first-order":
        close(influence[2], derivative_of_run(run, 2, removal) @ columns)
    close(-forward(run, [2], estimator=estimator, removal=removal) @ columns, influence[[2]])
    assert not influence[[0, *range(5, 24)]].any()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_contributions_of_single_occurrences_sum_to_all(estimator):
    net = small_network()
    run, columns = small_run(net, OPTIMIZERS["adamw groups"]), queries(net)
    each = attribute(run, columns, estimator=estimator, occurrences="each")
    total = np.zeros((net.n, 3))
    np.add.at(total, each.samples, each.influence)
    close(attribute(run, columns, estimator=estimator).influence, total, 1e-13)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("horizon", [0, 1, 2, 5, 12, 40])
def test_a_horizon_reads_every_change_off_its_own_later_step(estimator, horizon):
    net = small_network()
    run, query = small_run(net, OPTIMIZERS["adamw"]), loss_query(small_network(5), np.arange(2))
    each = attribute(run, query, estimator=estimator, horizon=horizon, occurrences="each")
    for t in (0, 3, run.steps - 1):
        end = min(run.steps, t + 1 + horizon)
        shorter = train(net, run.state(0)[0], run.batches[:end], run.optimizer)
        expected = attribute(shorter, query, estimator=estimator, occurrences="each")
        close(each.influence[each.steps == t], expected.influence[expected.steps == t], 1e-12)


def test_plain_sgd_is_the_sgd_formula():
    net = small_network()
    run, columns = small_run(net, SGD(0.3, schedule=decaying)), queries(net)
    influence = attribute(run, columns, estimator="sgd").influence
    written_out = np.zeros((net.n, 3))
    for t in range(run.steps):
        carried = columns
        for s in reversed(range(t + 1, run.steps)):
            hessian = net.hvp(run.state(s)[0], run.batches[s], run.weights(s), np.eye(net.p))
            carried = carried - 0.3 * decaying(s) * hessian @ carried
        for i in run.batches[t]:
            gradient = net.sample_gradients(run.state(t)[0], np.array([i]))[0]
            written_out[i] -= 0.3 * decaying(t) / len(run.batches[t]) * gradient @ carried
    close(influence, written_out, 1e-12)
    for estimator in ("first-order", "exact-push", "hybrid", "two-step"):
        close(attribute(run, columns, estimator=estimator).influence, influence, 1e-9)


@pytest.mark.parametrize("name", ["sgd momentum", "sgd nesterov", "sgd dampening", "sgd groups"])
def test_without_a_nonlinear_step_all_pushes_are_first_order(name):
    net = small_network()
    run, columns = small_run(net, OPTIMIZERS[name]), queries(net)
    first = attribute(run, columns, estimator="first-order").influence
    for estimator in ("two-step", "exact-push", "hybrid"):
        close(attribute(run, columns, estimator=estimator).influence, first, 1e-9)


class Tilt:
    """ℓ_i(θ) = a_iᵀθ: a gradient that never changes, so that a change of the slots is all there is to follow."""

    n, p = 24, 11
    slopes = np.random.default_rng(0).standard_normal((24, 11))

    def gradient(self, theta, batch, weights):
        return weights @ self.slopes[batch]

    def sample_gradients(self, theta, batch):
        return self.slopes[batch]

    def hvp(self, theta, batch, weights, directions):
        return np.zeros_like(directions)


COUPLED = {name for name, optimizer in OPTIMIZERS.items() if name in ("adam decay", "adam amsgrad")}


@both_removals
@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - COUPLED))
def test_without_curvature_pushes_are_exact_as_far_as_they_follow_the_slots(name, removal):
    """Retraining is the oracle; λθ in the gradient (Adam's coupled decay) is a curvature of its own."""
    steps = 10  # of which frozen pushes follow all
    objective = Tilt()
    run = train(objective, start(objective), epochs(objective, 6, 3)[:steps], OPTIMIZERS[name])
    columns = queries(objective)
    truth = retrain_without(run, np.arange(24)[:, None], removal=removal, occurrences="each")
    exact = truth.influence(columns)
    for estimator, followed in (("exact-push", 1), ("two-step", 2), ("frozen-push", steps)):
        pushed = attribute(run, columns, estimator=estimator, removal=removal, occurrences="each")
        rows = truth.steps >= steps - followed
        close(truth.matching(pushed)[rows], exact[rows], 1e-9)


def test_pushes_are_not_exact_further_than_they_follow_the_slots():
    objective = Tilt()
    run, columns = train(objective, start(objective), epochs(objective, 6, 3)[:9], AdamW(0.02)), queries(objective)
    truth = retrain_without(run, np.arange(24)[:, None], occurrences="each")
    for estimator, followed in (("first-order", 0), ("exact-push", 1), ("two-step", 2)):
        error = truth.matching(attribute(run, columns, estimator=estimator, occurrences="each"))
        error = np.abs(error - truth.influence(columns)).max(1)
        assert error[truth.steps < 9 - followed].min() > 1e-6


def test_frozen_pushes_are_not_exact_beyond_the_tenth_step():
    objective, steps = Tilt(), 14
    run = train(objective, start(objective), epochs(objective, 6, 4)[:steps], AdamW(0.02))
    truth, columns = retrain_without(run, np.arange(24)[:, None], occurrences="each"), queries(objective)
    error = truth.matching(attribute(run, columns, estimator="frozen-push", occurrences="each"))
    error = np.abs(error - truth.influence(columns)).max(1)
    assert error[truth.steps < steps - 2].min() > 1e-6
    assert error[truth.steps >= steps - 2].max() < 1e-12


# --- the truth -------------------------------------------------------------------------------------------------------


@both_removals
@every_optimizer
def test_the_batched_truth_is_a_plain_loop_without_the_samples(optimizer, removal):
    net = small_network()
    run = small_run(net, optimizer)
    groups = [[3], [0, 9, 17], [5]]
    truth = retrain_without(run, groups, removal=removal)

    def left(group):
        def weights_at(t):
            kept = ~np.isin(run.batches[t], group)
            return kept / (len(kept) if removal == "keep" else kept.sum())

        return weights_at

    for row, group in zip(truth.final, groups, strict=True):
        close(row, replayed_end(run, left(group)).real)


def test_the_truth_of_single_occurrences_removes_from_one_step():
    net = small_network()
    run = small_run(net, OPTIMIZERS["adamw"])
    truth = retrain_without(run, [[3], [8, 2]], occurrences="each")
    assert list(zip(truth.steps, map(list, truth.groups), strict=True)) == sorted(
        zip(truth.steps, map(list, truth.groups), strict=True), key=lambda pair: pair[0]
    )
    for row, t, group in zip(truth.final, truth.steps, truth.groups, strict=True):

        def weights_at(s, t=t, group=group):
            kept = ~np.isin(run.batches[s], group) if s == t else np.ones(6)
            return kept / 6

        close(row, replayed_end(run, weights_at).real)


def test_an_absent_sample_changes_nothing():
    net = small_network()
    run = train(net, start(net), epochs(net, 6, 1)[:2], OPTIMIZERS["adamw"])
    absent = np.setdiff1d(np.arange(net.n), np.concatenate(run.batches))
    truth = retrain_without(run, absent[:, None])
    assert not truth.influence(queries(net)).any()


@every_optimizer
def test_the_last_push_is_exact_and_a_quadratic_run_of_sgd_too(optimizer):
    objective = small_glm(loss="squared")
    run, columns = small_run(objective, optimizer), queries(objective)
    truth = retrain_without(run, np.arange(objective.n)[:, None], occurrences="each")
    pushed = attribute(run, columns, estimator="exact-push", occurrences="each")
    exact, estimate = truth.influence(columns), truth.matching(pushed)
    linear = isinstance(optimizer, SGD) and optimizer.clip_norm is None
    rows = truth.steps >= 0 if linear else truth.steps == run.steps - 1
    close(estimate[rows], exact[rows], 1e-9)


def test_agreement_sums_over_groups():
    net = small_network()
    run, columns = small_run(net, OPTIMIZERS["adamw"]), queries(net)
    attribution = attribute(run, columns)
    groups = [np.arange(k, k + 6) for k in range(0, 24, 6)]
    truth = retrain_without(run, groups)
    close(truth.matching(attribution), attribution.influence.reshape(4, 6, 3).sum(1))
    assert truth.agreement(attribution).pearson > 0.8


def test_a_cached_truth_resumes_and_is_keyed_by_its_content(tmp_path):
    net = small_network()
    calls = []

    class Counted(type(net)):
        def gradient(self, theta, batch, weights):
            calls.append(np.shape(theta)[:-1])
            return super().gradient(theta, batch, weights)

    counted = Counted(net.features, net.labels, hidden=(4,), classes=3)
    run = small_run(counted, OPTIMIZERS["adamw"])
    first = retrain_without(run, [[1], [2]], cache=tmp_path)
    calls.clear()
    again = retrain_without(run, [[2], [1]], cache=tmp_path)
    assert not calls
    assert np.array_equal(first.final, again.final[::-1])
    more = retrain_without(run, [[1], [2], [3]], cache=tmp_path)
    assert {shape for shape in calls if shape} == {(1,)}
    assert np.array_equal(more.final[:2], first.final)
    for changed in (
        retrain_without(run, [[1], [2]], removal="renormalise", cache=tmp_path),
        retrain_without(small_run(counted, AdamW(0.02, weight_decay=0.3, eps=1e-7)), [[1], [2]], cache=tmp_path),
    ):
        assert not np.array_equal(changed.final, first.final)
    each = retrain_without(run, [[1]], occurrences="each", cache=tmp_path)
    assert np.array_equal(each.final, retrain_without(run, [[1]], occurrences="each", cache=tmp_path).final)
    assert not np.array_equal(each.final[0], first.final[0])


def test_one_occurrence_in_all_is_that_occurrence():
    net = small_network()
    run = small_run(net, OPTIMIZERS["adamw"], count=1)
    every_sample = np.arange(net.n)[:, None]
    together = retrain_without(run, every_sample)
    each = retrain_without(run, every_sample, occurrences="each")
    order = [int(group[0]) for group in each.groups]
    close(each.final, together.final[order], 1e-12)


def test_the_proxy_of_a_cheaper_estimator_is_its_distance_to_two_steps():
    net = small_network()
    run, columns = small_run(net, OPTIMIZERS["adamw"]), queries(net)
    two_step = attribute(run, columns, estimator="two-step")
    for estimator in ("first-order", "exact-push", "hybrid", "sgd"):
        cheaper = attribute(run, columns, estimator=estimator)
        close(cheaper.proxy, np.abs(cheaper.influence - two_step.influence), 1e-13)
    for estimator in ("two-step", "frozen-push"):
        best = attribute(run, columns, estimator=estimator)
        square = (best.influence - attribute(run, columns, estimator=estimator, damping=0.9).influence) ** 2
        own, index = best.influence**2, min(best.tracked.index, 1.0)
        close(best.proxy**2, square + square.mean(0) + (0.0025 + index**2) * (own + own.mean(0)), 1e-12)


def test_the_default_estimator_is_the_frozen_push():
    net = small_network()
    run, columns = small_run(net, OPTIMIZERS["adamw"]), queries(net)
    frozen = attribute(run, columns, estimator="frozen-push").influence
    assert np.array_equal(attribute(run, columns).influence, frozen)
    assert not np.array_equal(attribute(run, columns, estimator="two-step").influence, frozen)


def test_weights_without_a_sample_are_what_the_conventions_say():
    batch = np.array([4, 4, 7, 1])
    np.testing.assert_allclose(without(batch, 4, "keep"), [0, 0, 0.25, 0.25])
    np.testing.assert_allclose(without(batch, 4, "renormalise"), [0, 0, 0.5, 0.5])
