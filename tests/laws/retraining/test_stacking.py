"""Stacked predictions: the weights that they should have, and no loss against the best single candidate."""

import numpy as np
import pytest
from scipy.optimize import nnls
from scipy.stats import spearmanr

from trak_theory.retraining import fidelity, stack
from trak_theory.retraining.stacking import RIDGES

LOADINGS = np.random.default_rng(7).standard_normal((5, 20))
NOISE = {
    "one good": [0.6, 2.0, 3.0, 4.0, 5.0, 6.0],
    "equally good": [1.0] * 6,
    "one good, five of noise": [0.4] + [1e6] * 5,
}


def draw(rng, subsets, queries, noise):
    """Outputs (B, q) of five common factors and candidates (C, B, q) with errors that queries share in part."""

    def shared():
        return rng.standard_normal((subsets, 5)) @ LOADINGS[:, :queries] / np.sqrt(5)

    outputs = shared() + 0.3 * rng.standard_normal((subsets, queries))
    errors = [each * (0.7 * shared() + 0.7 * rng.standard_normal((subsets, queries))) for each in noise]
    return outputs + np.stack(errors), outputs


def mean_spearman(first, second):
    return np.mean([spearmanr(a, b).statistic for a, b in zip(first.T, second.T, strict=True)])


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("subsets", [5, 10, 20, 50])
def test_on_new_subsets_it_is_not_below_the_best_single_candidate(subsets, noise):
    """12 worlds of 20 queries, LDS on 400 new subsets: below the truly best by no more than two errors of the gain."""
    rng, repeats, found = np.random.default_rng(subsets), 12 if subsets < 50 else 5, []
    for _ in range(repeats):
        stacked = stack(*draw(rng, subsets, 20, NOISE[noise]), rng=rng)
        candidates, outputs = draw(rng, 400, 20, NOISE[noise])
        ours = mean_spearman(stacked.predict(candidates), outputs)
        best = max(mean_spearman(one, outputs) for one in candidates)
        found.append(
            [ours - best, stacked.gain.se, stacked.lds.mean - stacked.lds.estimate.bias - ours, stacked.lds.se]
        )
    lost, error, gap, se = np.array(found).T
    assert np.mean(lost < -2 * error) <= 0.1, (lost, error)
    assert lost.mean() > -0.02
    if noise == "equally good":
        assert lost.mean() > 0.15
    assert np.mean(np.abs(gap) < 3 * se) >= 0.8, (gap, se)  # the cross-fitted LDS is the one on new subsets


def test_fitted_on_the_subsets_it_is_scored_on_it_would_flatter_itself():
    """Control: 12 candidates of pure noise have an LDS of 0 by cross-fitting, and a large one in hindsight."""
    rng, honest, flattered = np.random.default_rng(0), [], []
    for _ in range(20):
        outputs, candidates = rng.standard_normal((20, 1)), rng.standard_normal((12, 20, 1))
        stacked = stack(candidates, outputs, rng=rng)
        honest.append(stacked.lds.mean)
        flattered.append(fidelity(stacked.predict(candidates), outputs).mean)
    assert abs(np.mean(honest)) < 3 * np.std(honest, ddof=1) / np.sqrt(20)
    assert np.mean(flattered) > 0.4


def test_weights_are_those_of_nonnegative_ridge_regression_on_standardised_columns():
    rng = np.random.default_rng(1)
    candidates, outputs = draw(rng, 30, 4, [0.5, 0.7, 2.0])
    candidates[2] *= -1
    weights = stack(candidates, outputs, rng=rng).weights
    standard = [(part - part.mean(0)) / part.std(0) for part in (*candidates, outputs)]
    rows, target = np.stack([part.ravel() for part in standard[:-1]], axis=1), standard[-1].ravel()
    expected = [
        nnls(np.vstack([rows, np.sqrt(ridge * 120) * np.eye(3)]), np.append(target, np.zeros(3)))[0] for ridge in RIDGES
    ]
    assert min(np.abs(weights - each).max() for each in expected) < 1e-10
    assert weights[2] == 0


def test_units_of_the_candidates_do_not_matter():
    rng = np.random.default_rng(2)
    candidates, outputs = draw(rng, 20, 3, [0.5, 1.0])
    moved = candidates * np.array([1e-3, 50.0])[:, None, None] + np.array([7.0, -2.0, 0.0])
    one, two = (stack(each, outputs, rng=np.random.default_rng(0)) for each in (candidates, moved))
    np.testing.assert_allclose(one.weights, two.weights, rtol=1e-9)
    np.testing.assert_allclose(one.predict(candidates), two.predict(moved), rtol=1e-9)
    assert one.lds.mean == two.lds.mean


def test_one_candidate_is_scored_as_itself():
    rng = np.random.default_rng(3)
    candidates, outputs = draw(rng, 12, 5, [1.0])
    found = stack(candidates, outputs, rng=rng)
    assert found.lds.mean == pytest.approx(fidelity(candidates[0], outputs).mean)
    assert (found.gain.mean, found.gain.se) == pytest.approx((0.0, 0.0), abs=1e-12)


def test_the_gain_is_the_cross_fitted_lds_less_the_best_single_one():
    rng = np.random.default_rng(9)
    found = stack(*draw(rng, 20, 5, [1.0, 0.8, 1.0, 1.0]), rng=rng)
    singles = [one.mean for one in found.singles]
    assert found.best == int(np.argmax(singles))
    assert found.gain.mean == pytest.approx(found.lds.mean - max(singles))
    assert found.gain.mean > 0 < found.gain.se


def test_duplicates_share_a_weight_and_change_nothing():
    rng = np.random.default_rng(4)
    candidates, outputs = draw(rng, 20, 5, [0.5, 1.0])
    found = stack(candidates[[0, 0, 1]], outputs, rng=rng)
    assert found.weights[0] == pytest.approx(found.weights[1])
    alone = stack(candidates, outputs, rng=np.random.default_rng(4))
    assert found.lds.mean == pytest.approx(alone.lds.mean, abs=0.01)


def test_constant_candidates_get_no_weight_and_constant_queries_no_lds():
    rng = np.random.default_rng(5)
    candidates, outputs = draw(rng, 20, 4, [0.5, 1.0])
    candidates[1], outputs[:, 3] = 3.0, 1.0
    found = stack(candidates, outputs, rng=rng)
    assert (found.weights[1], found.best) == (0.0, 0)
    assert found.lds.undefined == {3: "the outputs are the same for all subsets"}
    assert np.isfinite([found.lds.mean, found.lds.se, found.gain.se]).all()
    assert found.predict(candidates)[:, 3] == pytest.approx(1.0)
    nothing = stack(np.ones((2, 20, 4)), outputs, rng=rng)
    assert np.isnan(nothing.lds.mean)
    assert len(nothing.lds.undefined) == 4


def test_more_folds_than_subsets_leave_one_out():
    rng = np.random.default_rng(6)
    candidates, outputs = draw(rng, 6, 5, [0.5, 1.0])
    one, two = (stack(candidates, outputs, folds=folds, rng=np.random.default_rng(0)) for folds in (6, 100))
    assert one.lds.mean == two.lds.mean


def test_candidates_all_against_the_outputs_leave_the_least_bad_one():
    rng = np.random.default_rng(8)
    candidates, outputs = draw(rng, 20, 5, [0.2, 1.0])
    found = stack(-candidates, outputs, rng=rng)
    np.testing.assert_array_equal(found.weights, [0.0, 1.0])
