"""Limits that tie the optimisers and the estimators to each other, with their rates."""

from __future__ import annotations

import numpy as np
import pytest
from support.networks.trajectories import queries, small_network, small_run, start

from trak_theory.trajectory import SGD, AdamW, attribute, retrain_without, train


@pytest.mark.parametrize("estimator", ["first-order", "two-step", "exact-push"])
def test_adamw_without_momentum_tends_to_sgd_as_one_over_eps(estimator):
    net = small_network()
    sgd = small_run(net, SGD(0.3))
    columns = queries(net)
    expected = attribute(sgd, columns, estimator=estimator).influence
    errors = []
    for eps in (1e2, 1e3, 1e4):
        run = small_run(net, AdamW(0.3 * eps, betas=(0.0, 0.9), eps=eps, weight_decay=0.0))
        error = attribute(run, columns, estimator=estimator).influence - expected
        errors.append(np.linalg.norm(error) / np.linalg.norm(expected))
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 10.0, rtol=0.05)
    assert errors[-1] < 1e-3


def test_first_order_is_exact_in_the_limit_of_a_small_removal():
    """Against retraining: the relative error is proportional to the sample's weight in its batch, AdamW included."""
    net = small_network(n=48)
    columns, errors = queries(net), []
    for copies in (16, 64, 256):
        batches = [np.r_[0, np.tile(np.arange(1, 24), copies)], np.tile(np.arange(24, 48), copies)] * 3
        run = train(net, start(net), batches, AdamW(0.02))
        exact = retrain_without(run, [[0]]).influence(columns)[0]
        first = attribute(run, columns, estimator="first-order").influence[0]
        errors.append(np.linalg.norm(first - exact) / np.linalg.norm(exact))
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 4.0, rtol=0.05)


def test_the_floor_of_first_order_under_adamw_does_not_vanish_with_the_learning_rate():
    """g ↦ m̂/√v̂ is scale-free: first order keeps its error as η → 0, two steps lose theirs."""
    net = small_network()
    columns, errors = queries(net), {"first-order": [], "two-step": []}
    for rate in (1e-3, 1e-4, 1e-5):
        run = small_run(net, AdamW(rate))
        exact = retrain_without(run, np.arange(net.n)[:, None]).influence(columns)
        for estimator, kept in errors.items():
            estimate = attribute(run, columns, estimator=estimator).influence
            kept.append(np.linalg.norm(estimate - exact) / np.linalg.norm(exact))
    assert errors["first-order"][-1] == pytest.approx(errors["first-order"][-2], rel=0.02)
    assert errors["first-order"][-1] > 0.1
    assert errors["two-step"][-1] < errors["first-order"][-1] / 2


def test_no_damping_is_the_exact_curvature_and_full_damping_is_none():
    net = small_network()
    run, columns = small_run(net, AdamW(0.02)), queries(net)
    none = attribute(run, columns, curvature="none").influence
    np.testing.assert_array_equal(attribute(run, columns, damping=0.0).influence, none)
    steps = [attribute(run, columns, damping=1 - gap).influence for gap in (1e-3, 1e-4)]
    exact = attribute(run, columns).influence
    gaps = [np.linalg.norm(step - exact) for step in steps]
    assert gaps[0] / gaps[1] == pytest.approx(10.0, rel=0.01)
