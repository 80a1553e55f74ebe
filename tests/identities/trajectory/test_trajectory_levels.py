"""The error budget and the remedy, level by level against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from support.networks.trajectories import OPTIMIZERS, queries, small_network, small_run

from trak_theory.trajectory import attribute, error_levels, loss_query, retrain_top, retrain_without

NET = small_network()
RUN = small_run(NET, OPTIMIZERS["adamw groups"])
EVERYONE = np.arange(NET.n)[:, None]
DESCENT = {
    "frozen push": {"estimator": "frozen-push"},
    "two-step": {"estimator": "two-step"},
    "exact push": {"estimator": "exact-push"},
    "first order": {"estimator": "first-order"},
    "Gauss–Newton": {"estimator": "first-order", "curvature": "ggn"},
    "no curvature": {"estimator": "first-order", "curvature": "none"},
    "SGD formula": {"estimator": "sgd", "curvature": "none"},
    "horizon": {"estimator": "sgd", "curvature": "none", "horizon": 0},
}


@pytest.mark.parametrize("convention", [{}, {"removal": "renormalise"}, {"occurrences": "each"}])
def test_every_level_is_its_own_attribution(convention):
    truth, query = retrain_without(RUN, EVERYONE, **convention), loss_query(small_network(5), np.arange(3))
    found = error_levels(truth, query)
    assert list(found.levels) == ["truth", *DESCENT, "precision", "checkpoints"]
    np.testing.assert_array_equal(found.levels["truth"], truth.influence(query))
    for name, settings in DESCENT.items():
        expected = truth.matching(attribute(RUN, query, **settings, **convention))
        np.testing.assert_array_equal(found.levels[name], expected)


def test_the_lowest_level_is_tracin_at_the_kept_checkpoints():
    query = loss_query(small_network(5), np.arange(3))
    lowest = error_levels(retrain_without(RUN, EVERYONE), query, every=5, precision="float64").levels["checkpoints"]
    expected = np.zeros((NET.n, 3))
    for t, batch in enumerate(RUN.batches):
        kept = RUN.state(t - t % 5)[0]
        read = RUN.final if t + 1 == RUN.steps else RUN.state(t + 1 - (t + 1) % 5)[0]
        rate = np.full(NET.p, 0.02)
        rate[[8, 9]] = 0.05
        slopes = query.slope(read) * rate * RUN.optimizer.rate(t)
        expected[batch] -= NET.sample_gradients(kept, batch) @ slopes.T / len(batch)
    np.testing.assert_allclose(lowest, expected, atol=1e-14)


def test_the_table_compares_with_the_truth_and_with_the_level_above():
    query = queries(NET)
    truth = retrain_without(RUN, EVERYONE)
    found = error_levels(truth, query)
    rows = {(row["level"], row["against"]): row for row in found.table()}
    names = list(found.levels)
    assert set(rows) == {(name, "truth") for name in names[1:]} | set(zip(names[2:], names[1:], strict=False))
    assert {row["source"] for row in rows.values()} == {"algorithm", "config", "system"}
    size = np.linalg.norm(found.levels["truth"], axis=0)
    for (name, above), row in rows.items():
        gap = np.linalg.norm(found.levels[name] - found.levels[above], axis=0) / size
        assert row["gap"] == pytest.approx(gap.mean(), rel=1e-12)
        if above == "truth":
            assert row["relative_error"] == pytest.approx(row["gap"], rel=1e-12)


def test_precision_costs_what_rounding_costs():
    truth = retrain_without(RUN, EVERYONE)
    query = loss_query(small_network(5), np.arange(3))
    exact = error_levels(truth, query, precision="float64").levels
    np.testing.assert_array_equal(exact["precision"], exact["horizon"])
    for precision, size in (("float32", 1e-7), ("float16", 1e-3)):
        levels = error_levels(truth, query, precision=precision).levels
        error = np.abs(levels["precision"] - exact["horizon"]).max() / np.abs(exact["horizon"]).max()
        assert 0.1 * size < error < 30 * size


@pytest.mark.parametrize("removal", ["keep", "renormalise"])
def test_retraining_the_top_replaces_the_largest_estimates_by_the_truth(removal, tmp_path):
    query = queries(NET)
    attribution = attribute(RUN, query, removal=removal)
    truth = retrain_without(RUN, EVERYONE, removal=removal).influence(query)
    remedy = retrain_top(RUN, attribution, 5, cache=tmp_path)
    size = np.abs(attribution.influence / np.sqrt(np.mean(attribution.influence**2, axis=0))).max(1)
    assert set(remedy.retrained) == set(np.argsort(size)[-5:])
    kept = np.setdiff1d(np.arange(NET.n), remedy.retrained)
    np.testing.assert_array_equal(remedy.influence[kept], attribution.influence[kept])
    np.testing.assert_allclose(remedy.influence[remedy.retrained], truth[remedy.retrained], rtol=1e-8, atol=1e-14)


def test_retraining_the_top_needs_whole_removals():
    with pytest.raises(ValueError, match='attribute with occurrences="all"'):
        retrain_top(RUN, attribute(RUN, queries(NET), occurrences="each"), 3)
