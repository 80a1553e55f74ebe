"""The certified radius of a refitted twin holds where its solver stops early, is near-tight, and fails when halved."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.problems import LOSS_NAMES, random_glm, seeds

from trak_theory import GLM
from trak_theory.retraining import membership, twin

ROUNDING = 1e-12  # relative, of the reference refits


def stopped_early(monkeypatch, stop):
    monkeypatch.setattr("trak_theory.retraining.reweighted_minima.TOL", stop)
    monkeypatch.setattr("trak_theory.retraining.reweighted_minima.SOLVED", 1.0)


def ratios(seed, *, loss, p, ridge, condition=10.0):
    """|change − refit| / radius for two subsets and three queries."""
    glm = random_glm(seed, n=30, p=p, loss=loss, ridge=ridge, condition=condition)
    rng = np.random.default_rng(seed)
    queries = rng.standard_normal((3, p))
    fit = glm.fit()
    model = twin(fit.linearize(queries), ridge, loss=loss, targets=glm.targets, outputs=fit.outputs)
    weights = membership([np.r_[0, 1, 2 + rng.permutation(28)[:12]] for _ in range(2)], 30)
    found = model.reweight(weights)
    kept = [np.flatnonzero(row) for row in weights]
    refits = [
        GLM(glm.features[rows], glm.targets[rows], loss=loss, ridge=ridge * rows.size / 30).fit().coef for rows in kept
    ]
    truth = np.array(refits) @ queries.T - queries @ fit.coef
    error = np.abs(found.change - truth) - ROUNDING * np.abs(np.array(refits) @ queries.T).max()
    return np.maximum(error, 0.0) / found.radius, found


@pytest.mark.parametrize("stop", [1e-1, 1e-11])
def test_the_radius_holds_wherever_the_solver_stops(stop):
    @settings(max_examples=60)
    @given(
        seed=seeds,
        loss=st.sampled_from(LOSS_NAMES),
        p=st.sampled_from([3, 45]),
        ridge=st.sampled_from([0.1, 3.0]),
        condition=st.sampled_from([1.0, 100.0]),
    )
    def holds(seed, loss, p, ridge, condition):
        with pytest.MonkeyPatch.context() as patch:
            if stop > 1e-11:
                stopped_early(patch, stop)
            assert ratios(seed, loss=loss, p=p, ridge=ridge, condition=condition)[0].max() <= 1.0

    holds()


def test_the_radius_is_near_tight_where_the_ridge_is_the_curvature(monkeypatch):
    """A ridge far above the curvature of the data, one coefficient: half the radius would be false (the control)."""
    stopped_early(monkeypatch, 0.5)
    found = np.concatenate([ratios(seed, loss="logistic", p=1, ridge=300.0)[0].ravel() for seed in range(20)])
    assert 0.5 < found.max() <= 1.0
