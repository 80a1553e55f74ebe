"""Many queries from a sweep of few rows: exact at full rank, and an error that is said without bias."""

import numpy as np
import pytest

from trak_theory.trajectory import MLP, SGD, AdamW, Lion, ManyQueries, attribute, attribute_many, loss_query, train
from trak_theory.trajectory.batches import shuffled_epochs


@pytest.fixture(scope="module")
def run():
    rng = np.random.default_rng(0)
    model = MLP(rng.standard_normal((30, 5)), rng.integers(3, size=30), hidden=(6,))
    batches = shuffled_epochs(30, size=6, steps=12, rng=rng)
    return train(model, model.start(rng), list(batches), AdamW(0.01))


def query(run, count=12):
    return loss_query(run.objective, np.arange(count))


@pytest.mark.parametrize("estimator", ["first-order", "two-step", "frozen-push"])
@pytest.mark.parametrize("removal", ["keep", "renormalise"])
def test_full_rank_is_the_whole_sweep(run, estimator, removal):
    whole = attribute(run, query(run), estimator=estimator, removal=removal).influence
    many = attribute_many(
        run, query(run), rank=12, rng=np.random.default_rng(1), estimator=estimator, removal=removal, probes=1
    )
    np.testing.assert_allclose(many.influence, whole, rtol=0, atol=1e-12 * np.abs(whole).max())
    assert many.relative_error < 1e-12
    assert many.rows == 13


def squared_error(run, many):
    return float(((many.influence - attribute(run, query(run)).influence) ** 2).sum())


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_the_squared_error_is_estimated_without_bias(run, rank):
    many = attribute_many(run, query(run), rank=rank, probes=200, rng=np.random.default_rng(rank))
    true = squared_error(run, many)
    assert abs(many.error - np.sqrt(true)) <= 4 * many.error_se
    assert many.error_se < 0.1 * many.error


class Uniform:
    """Signs that are not signs: of variance 1/3."""

    def choice(self, _, size):
        return np.random.default_rng(0).uniform(-1.0, 1.0, size)


def test_probes_of_another_variance_do_not_say_it(run):
    many = attribute_many(run, query(run), rank=6, probes=200, rng=Uniform())
    assert abs(many.error - np.sqrt(squared_error(run, many))) > 6 * many.error_se


def test_the_standard_error_is_the_spread_over_probes(run):
    found = [attribute_many(run, query(run), rank=4, probes=40, rng=np.random.default_rng(s)) for s in range(30)]
    spread = np.std([many.error for many in found], ddof=1)
    assert 0.7 < np.mean([many.error_se for many in found]) / spread < 1.4


def test_two_probes_tell_the_error_to_about_a_third(run):
    said = [attribute_many(run, query(run), rank=4, rng=np.random.default_rng(seed)).error for seed in range(40)]
    true = np.sqrt(squared_error(run, attribute_many(run, query(run), rank=4, rng=np.random.default_rng(0))))
    assert np.mean(np.abs(np.array(said) / true - 1) < 1 / 3) > 0.6


def test_more_rows_leave_less(run):
    errors = [
        squared_error(run, attribute_many(run, query(run), rank=r, rng=np.random.default_rng(0))) for r in (1, 4, 9)
    ]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


@pytest.mark.parametrize(("wrong", "says"), [({"rank": 0}, "rank must be at least 1"), ({"probes": 0}, "probes must")])
def test_wrong_counts_are_refused(run, wrong, says):
    with pytest.raises(ValueError, match=says):
        attribute_many(run, query(run), rng=np.random.default_rng(0), **{"rank": 2, **wrong})


@pytest.mark.parametrize(("error", "says"), [(0.0, 0.0), (1e-3, np.inf)])
def test_the_relative_error_of_scores_that_vanish(error, says):
    assert ManyQueries(np.zeros((3, 2)), error, 0.0, 4).relative_error == says


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e200])
def test_slopes_whose_squares_are_not_finite_are_refused(run, wrong):
    slopes = np.ones((run.objective.p, 3))
    slopes[4, 1] = wrong
    with pytest.raises(ValueError, match="gradients at the end of the run are not finite, or their squares overflow"):
        attribute_many(run, slopes, rank=2, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    "optimizer", [SGD(0.1, momentum=0.9), AdamW(0.01, amsgrad=True, clip_norm=0.5), Lion(1e-3, weight_decay=0.1)]
)
def test_repeated_queries_cost_no_more_than_the_different_ones(run, optimizer):
    trained = train(run.objective, run.state(0)[0], run.batches, optimizer)
    twice = loss_query(run.objective, np.array([0, 1, 0, 1, 1]))
    whole = attribute(trained, twice).influence
    many = attribute_many(trained, twice, rank=2, rng=np.random.default_rng(3))
    np.testing.assert_allclose(many.influence, whole, rtol=0, atol=1e-10 * np.abs(whole).max())
    assert many.relative_error < 1e-10
