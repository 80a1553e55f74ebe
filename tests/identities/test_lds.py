"""The LDS against scipy, its delete-one values against deletion, and the symmetries of a comparison."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from support.problems import seeds

from trak_theory.retraining import compare, fidelity, lds, membership
from trak_theory.retraining.crossed import CrossedMean, crossed_mean
from trak_theory.retraining.noise import additive_ceiling, noise_ceiling
from trak_theory.retraining.rank_jackknife import spearman_jackknife


def problem(seed, *, n=20, count=30, q=4, noise=1.0):
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((n, q))
    subsets = np.argsort(rng.random((count, n)), axis=1)[:, : n // 2]
    return scores, subsets, scores[subsets].sum(1) + noise * rng.standard_normal((count, q))


@settings(max_examples=60)
@given(seed=seeds, count=st.integers(4, 25), levels=st.sampled_from([3, 8, 10**6]))
def test_spearman_and_its_delete_one_values_with_ties(seed, count, levels):
    x, y = np.random.default_rng(seed).integers(0, levels, (2, count, 2)).astype(float)
    rho, without = spearman_jackknife(x, y)
    for j in range(2):
        expected = [_spearman(np.delete(x[:, j], b), np.delete(y[:, j], b)) for b in range(count)]
        np.testing.assert_allclose(rho[j], _spearman(x[:, j], y[:, j]), atol=1e-12)
        np.testing.assert_allclose(without[:, j], expected, atol=1e-12)


def _spearman(x, y):
    return spearmanr(x, y).statistic if np.ptp(x) and np.ptp(y) else np.nan


@pytest.mark.parametrize("seed", range(3))
def test_mean_and_error_by_deletion(seed):
    """The standard error from B scores that each leave one subset out, all queries at once."""
    scores, subsets, outputs = problem(seed)
    found = lds(scores, subsets, outputs)
    values = [spearmanr(a, b).statistic for a, b in zip(scores[subsets].sum(1).T, outputs.T, strict=True)]
    np.testing.assert_allclose(found.per_query, values, atol=1e-12)
    assert found.mean == pytest.approx(np.mean(values))
    count = len(subsets)
    without = [lds(scores, np.delete(subsets, b, 0), np.delete(outputs, b, 0)).mean for b in range(count)]
    jackknife = (count - 1) / count * np.sum((np.array(without) - np.mean(without)) ** 2)
    assert found.estimate.subset_variance == pytest.approx(jackknife, rel=1e-9)
    assert found.estimate.bias == pytest.approx((count - 1) * (np.mean(without) - found.mean), abs=1e-9)


def test_lists_of_unequal_lengths_are_the_rows_they_hold():
    scores, subsets, outputs = problem(0)
    found = lds(scores, [row.tolist() for row in subsets], outputs)
    assert found.mean == lds(scores, subsets, outputs).mean
    uneven = [row[: 5 + b % 4] for b, row in enumerate(subsets)]
    expected = [spearmanr(membership(uneven, 20) @ scores[:, j], outputs[:, j]).statistic for j in range(4)]
    np.testing.assert_allclose(lds(scores, uneven, outputs).per_query, expected, atol=1e-12)


def test_order_and_monotone_maps_change_nothing():
    scores, subsets, outputs = problem(1)
    found = lds(scores, subsets, outputs)
    order = np.random.default_rng(0).permutation(30)
    for other in (lds(scores, subsets[order], outputs[order]), lds(3 * scores, subsets, np.exp(outputs))):
        assert (other.mean, other.se) == pytest.approx((found.mean, found.se))
    assert lds(-scores, subsets, outputs).mean == pytest.approx(-found.mean)


def test_a_comparison_is_antisymmetric_and_its_mean_the_difference():
    scores, subsets, outputs = problem(2)
    other = scores + np.random.default_rng(0).standard_normal(scores.shape)
    there, back = compare(scores, other, subsets, outputs), compare(other, scores, subsets, outputs)
    expected = lds(scores, subsets, outputs).mean - lds(other, subsets, outputs).mean
    assert (there.mean, there.se) == pytest.approx((expected, back.se))
    assert there.interval() == pytest.approx(tuple(-limit for limit in reversed(back.interval())))
    same = compare(scores, scores, subsets, outputs)
    assert (same.mean, same.se, same.interval()) == (0.0, 0.0, (0.0, 0.0))


def test_limits_are_those_of_95_per_cent_unless_told():
    found = lds(*problem(2))
    assert found.interval() == found.estimate.interval() == found.estimate.interval(level=0.95)
    wide, narrow = found.estimate.interval(level=0.99), found.estimate.interval(level=0.5)
    assert wide[0] < found.interval()[0] < narrow[0] < narrow[1] < found.interval()[1] < wide[1]
    with pytest.raises(TypeError, match="positional"):
        found.estimate.interval(0.95, "subsets")


@pytest.mark.parametrize(("queries", "by_query"), [(1, 0.0), (2, 12.7062**2 * (0.03 + 0.01)), (5, 2.7764**2 * 0.04)])
def test_limits_from_quantiles_of_student(queries, by_query):
    """Twelve subsets: t of 11 degrees of freedom, 2.2010, and B/(B − 3) = 4/3."""
    found = CrossedMean(0.4, 0.02, 0.05, 0.03, 0.01, 12, queries, correlation=False)
    by_subset = 2.2010**2 * 0.05 * 12 / 9
    low, high = found.interval(over="subsets")
    assert (low + high, high - low) == pytest.approx((2 * 0.38, 2 * np.sqrt(by_subset)), rel=1e-4)
    low, high = found.interval()
    assert (low + high, high - low) == pytest.approx((2 * 0.38, 2 * np.sqrt(by_subset + by_query)), rel=1e-4)


def test_nothing_is_corrected_by_a_ceiling_of_zero():
    """Outputs that a second training turns round: no share of a ceiling."""
    scores, subsets, outputs = problem(2)
    found = lds(scores, subsets, outputs, replicates=-outputs[None])
    assert found.noise_ceiling.value == 0
    assert np.isnan(found.corrected.value)


def test_a_sum_of_scores_has_its_lds_for_fidelity():
    scores, subsets, outputs = problem(2)
    found, expected = fidelity(membership(subsets, len(scores)) @ scores, outputs), lds(scores, subsets, outputs)
    assert (found.mean, found.se) == pytest.approx((expected.mean, expected.se))
    with pytest.raises(ValueError, match=r"predicted have shape \(3, 4\)"):
        fidelity(outputs[:3], outputs)


def test_constant_queries_are_named_and_the_others_kept():
    scores, subsets, outputs = problem(3, q=5)
    kept = lds(scores[:, [0, 4]], subsets, outputs[:, [0, 4]])
    scores[:, 1] = 0.1  # sums equal up to rounding
    outputs[:, 2] = 5.0
    outputs[:, 3] = np.arange(30) == 7
    found = lds(scores, subsets, outputs)
    assert list(found.undefined) == [1, 2, 3]
    assert [reason.split()[1] for reason in found.undefined.values()] == ["summed", "outputs", "subset"]
    assert np.flatnonzero(np.isnan(found.per_query)).tolist() == [1, 2, 3]
    assert (found.mean, found.se, found.estimate.queries) == (kept.mean, kept.se, 2)
    assert "3 of 5 queries" in found.warnings[0]
    assert list(compare(scores, problem(3, q=5)[0], subsets, outputs).undefined) == [1, 2, 3]
    nothing = lds(scores[:, 1:4], subsets, outputs[:, 1:4], replicates=outputs[None, :, 1:4] + 1.0)
    assert np.isnan(nothing.mean)
    assert nothing.estimate.queries == 0


def test_a_perfect_score_has_a_degenerate_interval_inside_the_bounds():
    scores, subsets, _ = problem(4)
    found = lds(scores, subsets, scores[subsets].sum(1))
    low, high = found.interval()
    assert found.mean == pytest.approx(1.0)
    assert 0.999 < low <= high <= 1.0


@pytest.mark.parametrize("replicates", [1, 3])
def test_delete_one_ceilings_by_deletion(replicates):
    rng = np.random.default_rng(5)
    _, subsets, outputs = problem(5, count=45)
    again = outputs + rng.standard_normal((replicates, 45, 4))
    members = membership(subsets, 20)
    for whole, without, recompute in (
        (*noise_ceiling(outputs, again), lambda keep: noise_ceiling(outputs[keep], again[:, keep])),
        (*additive_ceiling(outputs, members), lambda keep: additive_ceiling(outputs[keep], members[keep])),
    ):
        assert whole.shape == (4,)
        for b in (0, 13, 44):
            np.testing.assert_allclose(without[b], recompute(np.arange(45) != b)[0], atol=1e-10)


def test_more_subsets_for_a_smaller_error():
    found = lds(*problem(6))
    left = np.sqrt(found.estimate.query_variance + found.estimate.subset_variance / 2)
    assert found.subsets_for(left) in (60, 61)
    assert found.subsets_for(found.se) in (30, 31)
    with pytest.raises(ValueError, match="take more queries"):
        found.subsets_for(np.sqrt(found.estimate.query_variance) * 0.9)


def test_variances_of_a_two_way_layout():
    """Rows, columns and their interaction with known variances, over 400 layouts; 4 standard errors."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        rows, columns, both = (
            rng.standard_normal((12, 1)),
            2 * rng.standard_normal((1, 9)),
            rng.standard_normal((12, 9)),
        )
        found.append(crossed_mean(rows + columns + 3 * both, 0.0))
    for name, expected in (
        ("subset_variance", 1 / 12 + 9 / 108),
        ("interaction", 9 / 108),
        ("query_variance", 4 / 9),
    ):
        values = np.array([getattr(one, name) for one in found])
        assert abs(values.mean() - expected) < 4 * values.std() / 20, name
