"""Agreement: each measure against scipy or its definition; ties, constants, NaN."""

import pickle

import numpy as np
import pytest
from scipy import stats

from trak_theory import agreement


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((50, 4))
    return reference, 0.3 * reference + 0.2 * rng.standard_normal((50, 4))


def test_measures_are_their_definitions(pair):
    reference, estimate = pair
    result = agreement(reference, estimate)
    columns = list(zip(reference.T, estimate.T, strict=True))
    for name, function in [
        ("pearson", lambda r, e: stats.pearsonr(r, e).statistic),
        ("spearman", lambda r, e: stats.spearmanr(r, e).statistic),
        ("kendall", lambda r, e: stats.kendalltau(r, e).statistic),
        ("slope", lambda r, e: (r @ e) / (r @ r)),
        ("relative_error", lambda r, e: np.linalg.norm(e - r) / np.linalg.norm(r)),
        ("top_overlap", lambda r, e: len(set(np.argsort(r)[-5:]) & set(np.argsort(e)[-5:])) / 5),
        ("sign", lambda r, e: np.mean(np.sign(r) == np.sign(e))),
    ]:
        values = [function(r, e) for r, e in columns]
        measure = getattr(result, name)
        assert measure == pytest.approx(np.mean(values), rel=1e-12)
        assert measure.se == pytest.approx(np.std(values, ddof=1) / 2, rel=1e-10)
    assert result.excluded == 0


def test_of_itself_and_of_its_negative(pair):
    reference, _ = pair
    same, opposite = agreement(reference, reference), agreement(reference, -reference)
    for name in ("pearson", "spearman", "kendall", "slope", "top_overlap", "sign"):
        assert getattr(same, name) == pytest.approx(1.0)
    assert same.relative_error == 0
    assert opposite.kendall == pytest.approx(-1.0)
    assert opposite.relative_error == pytest.approx(2.0)


def test_ties_are_tau_b_and_mean_ranks():
    reference, estimate = np.array([1.0, 1.0, 2.0, 3.0]), np.array([1.0, 2.0, 2.0, 4.0])
    result = agreement(reference, estimate)
    assert result.kendall == pytest.approx(stats.kendalltau(reference, estimate).statistic)
    assert result.spearman == pytest.approx(stats.spearmanr(reference, estimate).statistic)


def test_a_constant_column_is_left_out_of_the_mean(pair):
    reference, estimate = (array.copy() for array in pair)
    estimate[:, 1] = 0.1
    kept = agreement(reference[:, [0, 2, 3]], estimate[:, [0, 2, 3]])
    assert agreement(reference, estimate).pearson == pytest.approx(kept.pearson)
    assert agreement(reference, estimate).kendall == pytest.approx(kept.kendall)
    alone = agreement(reference[:, 1], estimate[:, 1])
    assert np.isnan(alone.pearson)
    assert np.isnan(alone.kendall)


def test_nan_pairs_are_excluded_and_counted(pair):
    reference, estimate = (array.copy() for array in pair)
    reference[3] = np.nan
    estimate[5, 0] = np.nan
    result = agreement(reference, estimate)
    assert result.excluded == 5
    assert result.kendall == pytest.approx(
        np.mean([stats.kendalltau(r, e, nan_policy="omit").statistic for r, e in zip(reference.T, estimate.T)])  # noqa: B905
    )
    nothing = agreement(np.full((4, 2), np.nan), np.zeros((4, 2)))
    assert np.isnan(nothing.kendall)
    assert nothing.excluded == 8


def test_extreme_scales_do_not_overflow(pair):
    reference, estimate = pair
    assert agreement(reference * 1e200, estimate * 1e-200).pearson == pytest.approx(agreement(*pair).pearson)


def test_one_query_as_a_vector_has_no_standard_error(pair):
    reference, estimate = pair
    result = agreement(reference[:, 0], estimate[:, 0])
    assert np.isnan(result.kendall.se)
    assert result.kendall == pytest.approx(stats.kendalltau(reference[:, 0], estimate[:, 0]).statistic)


def test_a_mean_survives_pickling_and_prints_its_error(pair):
    kendall = agreement(*pair).kendall
    copy = pickle.loads(pickle.dumps(kendall))
    assert (copy, copy.se) == (kendall, kendall.se)
    assert "±" in repr(kendall)


def test_shapes_must_match():
    with pytest.raises(ValueError, match=r"reference has shape \(3, 1\), the estimate \(4, 1\)"):
        agreement(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match="must have shape"):
        agreement(np.zeros((2, 2, 2)), np.zeros((2, 2, 2)))
