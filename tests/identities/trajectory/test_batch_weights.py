"""Weights of samples in the batch mean: whole numbers are repetitions of the sample in the batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from trak_theory.losses import Logistic
from trak_theory.trajectory import SGD, AdamW, GLMObjective, attribute, forward, loss_query, retrain_without, train

N, P = 10, 3
WEIGHTS = np.array([1.0, 3, 2, 1, 1, 4, 2, 1, 3, 2])


@dataclass(frozen=True, eq=False)
class WeightedGLM(GLMObjective):
    batch_weights: np.ndarray


def two_runs(optimizer):
    """The same training: with weights, and with every sample as often in its batch as it weighs."""
    rng = np.random.default_rng(0)
    data = (rng.normal(size=(N, P)), rng.integers(2, size=N).astype(float), np.ones(N), Logistic())
    batches = [rng.choice(N, 4, replace=False) for _ in range(8)]
    repeated = [np.repeat(batch, WEIGHTS[batch].astype(int)) for batch in batches]
    start = rng.normal(size=P)
    weighted = train(WeightedGLM(*data, WEIGHTS), start, batches, optimizer)
    return weighted, train(GLMObjective(*data), start, repeated, optimizer)


@pytest.mark.parametrize("removal", ["keep", "renormalise"])
@pytest.mark.parametrize("estimator", ["two-step", "frozen-push", "hybrid", "first-order", "sgd"])
@pytest.mark.parametrize("optimizer", [SGD(0.3, momentum=0.9), AdamW(0.1, clip_norm=0.3)], ids=["sgd", "adamw"])
def test_a_weight_is_a_repetition(optimizer, estimator, removal):
    runs = two_runs(optimizer)
    np.testing.assert_allclose(runs[0].final, runs[1].final, atol=1e-13)
    column = np.linspace(-1, 1, P)
    found = [attribute(run, column, estimator=estimator, removal=removal).influence for run in runs]
    assert np.abs(found[1]).max() > 1e-3
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-12)
    ahead = [forward(run, np.arange(N), estimator=estimator, removal=removal) for run in runs]
    np.testing.assert_allclose(ahead[0], ahead[1], rtol=0, atol=1e-12)
    truth = [retrain_without(run, [[0], [1, 5]], removal=removal).influence(column) for run in runs]
    np.testing.assert_allclose(truth[0], truth[1], rtol=0, atol=1e-12)


def test_the_mean_loss_of_a_query_weighs_its_samples_alike():
    run, _ = two_runs(SGD(0.1))
    query = loss_query(run.objective, [1, 2], mean=True)
    each = run.objective.sample_gradients(run.final, np.array([1, 2]))
    np.testing.assert_allclose(query.slope(run.final)[0], each.mean(0), atol=1e-15)


def test_removing_all_that_weighs_has_no_renormalised_mean():
    run, _ = two_runs(SGD(0.1))
    silent = WeightedGLM(*vars(run.objective).values())
    object.__setattr__(silent, "batch_weights", np.where(np.arange(N) == run.batches[0][0], 1.0, 0.0))
    alone = train(silent, run.state(0)[0], run.batches[:1], SGD(0.1))
    with pytest.raises(ValueError, match="its mean does not exist"):
        attribute(alone, np.ones(P), removal="renormalise")
