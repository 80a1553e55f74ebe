"""The laws' premises: the numbers that rows have, the law of sparse rows, and what is warned of."""

import numpy as np
import pytest

from trak_theory import (
    GLM,
    Linearization,
    agreement,
    conditional_rank_law,
    newton,
    projection_law,
    projection_matrix,
    rank_law,
    trak,
)
from trak_theory.laws.gaussian_pair import ScoreLaw, Sharing
from trak_theory.laws.premises import row_premises
from trak_theory.laws.rank_law import Overlaps, rank_law_of
from trak_theory.laws.sparse_design import sparse_scales, sparse_sharing
from trak_theory.laws.state_evolution import state_evolution
from trak_theory.projection.error_bars import participation

DESIGN = {"n": 300, "p": 150, "k": 60, "ridge": 3.0, "signal": 1.5}


def sparse_rows(rng, shape, density):
    return rng.standard_normal(shape) * (rng.random(shape) < density) / np.sqrt(density)


def simulated(density, seeds, *, n, p, k, ridge, signal):
    """Kendall of TRAK with one Newton step on sparse logistic data: mean and standard error over data sets."""
    found = []
    for seed in seeds:
        rng = np.random.default_rng([int(1000 * density), seed])
        rows, queries = sparse_rows(rng, (n, p), density), sparse_rows(rng, (20, p), density)
        coef = rng.standard_normal(p)
        outputs = rows @ coef * signal / np.linalg.norm(coef)
        targets = (rng.random(n) < 1 / (1 + np.exp(-outputs))).astype(float)
        lin = GLM(rows, targets, loss="logistic", ridge=ridge).fit().linearize(queries)
        found.append(float(agreement(newton(lin), trak(lin, k=k, rng=rng)).kendall))
    return np.mean(found), np.std(found, ddof=1) / np.sqrt(len(found))


# ---- numbers of a design


@pytest.mark.parametrize(("density", "allowed"), [(1.0, 1.0), (0.1, 0.2), (0.03, 0.2)])
def test_kurtosis_of_rows_is_that_of_their_entries_in_any_basis(density, allowed):
    rng = np.random.default_rng(0)
    rows = sparse_rows(rng, (500, 300), density)
    rotation = np.linalg.qr(rng.standard_normal((300, 300)))[0]
    found, rotated = row_premises(rows), row_premises(rows @ rotation)
    assert found.kurtosis == pytest.approx(3 / density, rel=allowed)
    assert rotated.kurtosis == pytest.approx(found.kurtosis, rel=1e-8)
    assert found.dimension == pytest.approx(300, rel=0.05)


def test_spread_of_rows_is_that_of_their_scales_alone():
    rng = np.random.default_rng(1)
    scales = np.exp(0.3 * rng.standard_normal(400))
    rows = rng.standard_normal((400, 200))
    assert row_premises(rows).spread < 0.005
    expected = np.var(scales**2) / np.mean(scales**2) ** 2
    found = row_premises(rows * scales[:, None])
    assert found.spread == pytest.approx(expected, rel=0.1)
    assert np.corrcoef(found.scales, scales)[0, 1] > 0.97
    assert found.kurtosis < 6


def test_dimension_is_that_of_the_spectrum():
    rng = np.random.default_rng(2)
    spectrum = np.arange(1, 101) ** -1.0
    found = row_premises(rng.standard_normal((1000, 100)) * np.sqrt(spectrum))
    assert found.dimension == pytest.approx(spectrum.sum() ** 2 / (spectrum @ spectrum), rel=0.08)


def test_few_rows_are_refused():
    with pytest.raises(ValueError, match="19 non-zero rows: the premises need at least 20"):
        row_premises(np.vstack([np.ones((19, 3)), np.zeros((5, 3))]))


def test_participation_counts_the_parameters_of_a_gradient():
    rows = np.array([[1.0, 1, 1, 1], [0, 3, 0, 0], [2, -2, 0, 0], [0, 0, 0, 0]])
    assert participation(rows).tolist() == [4, 1, 2, 1]


# ---- the law of sparse rows


def test_sharing_has_mean_one_and_the_variance_over_points_of_one_query():
    p, density = 400, 0.1
    shared = sparse_sharing(p, density, truth=0.1, estimate=0.2, between=0.3)
    mean = shared.weights @ shared.nodes
    assert shared.weights.sum() == pytest.approx(1, abs=1e-9)
    assert mean == pytest.approx(1, abs=1e-9)
    rng = np.random.default_rng(0)
    variances = []
    for _ in range(300):
        query = sparse_rows(rng, p, density)
        overlap = (rng.random((400, p)) < density) @ query**2 / (density * p)
        variances.append(overlap.var())
    assert shared.weights @ (shared.nodes - 1) ** 2 == pytest.approx(np.mean(variances), rel=0.1)


def test_scales_have_the_variance_of_sparse_norms():
    rng = np.random.default_rng(0)
    squares = (sparse_rows(rng, (20_000, 200), 0.1) ** 2).mean(1)
    found = sparse_scales(200, 0.1) ** 2
    assert found.mean() == pytest.approx(1, abs=1e-3)
    assert found.var() + 2 / 200 == pytest.approx(squares.var(), rel=0.05)
    assert sparse_scales(200, 1.0) is None


def test_density_one_is_the_gaussian_law():
    sparse, gaussian = rank_law(**DESIGN, kind="sparse", density=1.0), rank_law(**DESIGN)
    for measure in ("pearson", "kendall", "spearman", "slope", "top_overlap"):
        assert getattr(sparse, measure) == pytest.approx(getattr(gaussian, measure), rel=1e-6)


@pytest.mark.parametrize("density", [0.2, 0.1])
def test_the_sparse_law_agrees_with_simulation_where_the_gaussian_one_does_not(density):
    mean, se = simulated(density, range(6), **DESIGN)
    law = rank_law(**DESIGN, kind="sparse", density=density).kendall
    assert abs(mean - law) < 4 * se + 0.006
    if density == 0.1:
        assert rank_law(**DESIGN).kendall - mean > 0.04


@pytest.mark.slow
@pytest.mark.parametrize(
    ("density", "sizes"),
    [
        (0.2, {"n": 300, "p": 60, "k": 30, "ridge": 3.0, "signal": 1.5}),
        (0.07, {"n": 300, "p": 300, "k": 100, "ridge": 6.0, "signal": 1.0}),
        (0.04, {"n": 400, "p": 600, "k": 150, "ridge": 10.0, "signal": 2.0}),
    ],
)
def test_the_sparse_law_agrees_with_simulation_at_other_sizes(density, sizes):
    mean, se = simulated(density, range(12), **sizes)
    assert abs(mean - rank_law(**sizes, kind="sparse", density=density).kendall) < 4 * se + 0.01


def test_rank_measures_with_sharing_are_those_of_draws():
    """Var G₁ = 1 + a(t − 1) and so on, drawn and ranked."""
    rng = np.random.default_rng(0)
    m, size = 4000, np.array([0.5, 2.0])
    sharing = Sharing(np.array([0.0, 3.0]), np.array([2 / 3, 1 / 3]), 0.8, 0.5, 0.9)
    law = ScoreLaw(size, np.array([1.0, 0.6]), np.array([0.4, 0.6]), 0.6, sharing)
    kind, t = rng.choice(2, m, p=[0.4, 0.6]), rng.choice(sharing.nodes, m, p=sharing.weights)
    first, second = 1 + 0.8 * (t - 1), 1 + 0.5 * (t - 1)
    cosine = 0.6 * (1 + 0.9 * (t - 1)) / np.sqrt(first * second)
    g = rng.standard_normal((2, m))
    truth = size[kind] * np.sqrt(first) * g[0]
    estimate = size[kind] * law.factor[kind] * np.sqrt(second) * (cosine * g[0] + np.sqrt(1 - cosine**2) * g[1])
    found = agreement(truth[:, None], estimate[:, None])
    assert law.kendall == pytest.approx(float(found.kendall), abs=0.03)
    assert law.spearman == pytest.approx(float(found.spearman), abs=0.04)
    assert law.top_overlap(0.1) == pytest.approx(float(found.top_overlap), abs=0.07)


def test_the_influence_function_of_sparse_rows_shares_the_diagonal_of_the_inverse_hessian():
    """Isotropic: tr H⁻²/p = (η/p)²/(1 − a η²/p) with a = nE d̃², of which the diagonal makes (η/p)²."""
    p, density = 150, 0.2
    state = state_evolution(n=500, p=p, ridge=5.0, signal=1.5, scales=sparse_scales(p, density))
    points = state.points
    share = 1 - 500 * np.average(points.damped**2, weights=points.weight) * state.eta**2 / p
    sharing = sparse_sharing(p, density, truth=share, estimate=share, between=share)
    law = ScoreLaw(np.abs(points.residual) * points.scale, 1 - points.leverage, points.weight, 1.0, sharing)
    found = rank_law_of(state, k=60, density=density).influence
    for measure in ("pearson", "kendall", "spearman"):
        assert getattr(found, measure) == pytest.approx(getattr(law, measure), abs=1e-7), measure


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "sparse"}, "needs density"),
        ({"kind": "sparse", "density": 0.0}, r"in \(0, 1\], got 0.0"),
        ({"kind": "sparse", "density": 0.02}, "a row has 3 non-zero entries and a column 6"),
        ({"kind": "sparse", "density": 0.1, "scales": np.ones(3)}, "no spectrum, no scales"),
        ({"density": 0.1}, "rows of kind 'gaussian' with density 0.1"),
        ({"kind": "binary"}, "rows of kind 'binary' with density None"),
    ],
)
def test_what_the_sparse_law_does_not_cover_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        rank_law(**DESIGN, **options)


# ---- warnings


def test_rows_that_break_the_premise_are_warned_of_with_the_kendall_to_expect():
    rng = np.random.default_rng(0)
    sparse, gaussian = sparse_rows(rng, (300, 150), 0.08), rng.standard_normal((300, 150))
    (warning,) = (w for w in rank_law(**DESIGN, rows=sparse).warnings if "kurtosis" in w)
    expected = rank_law(**DESIGN, kind="sparse", density=0.08).kendall
    assert float(warning.split("about ")[1].split(":")[0]) == pytest.approx(expected, abs=0.025)
    assert rank_law(**DESIGN, rows=gaussian).warnings == rank_law(**DESIGN).warnings


def test_rows_of_another_spectrum_are_warned_of():
    rows = np.random.default_rng(0).standard_normal((300, 150)) + 1.0
    assert any("effective dimension" in warning for warning in rank_law(**DESIGN, rows=rows).warnings)


def sketched(rows, kind, k):
    ones = np.ones(len(rows) - 10)
    return projection_law(Linearization(rows[:-10], ones, ones, 0.0, rows[-10:]), k=k, ridge=0.1, kind=kind)


def test_count_sketches_of_localised_gradients_are_warned_of():
    rng = np.random.default_rng(0)
    localised, spread = sparse_rows(rng, (100, 400), 0.01), rng.standard_normal((100, 400))
    assert "countsketch with k = 50" in sketched(localised, "countsketch", 50).diagnosis
    for kind in ("normal", "rademacher", "sparse", "srht"):
        assert sketched(localised, kind, 50).diagnosis == ""
    assert sketched(spread, "countsketch", 50).diagnosis == ""
    assert "none falls into" in sketched(spread[:, :100], "countsketch", 60).diagnosis
    assert "srht: k = 60 orthogonal columns of 100" in sketched(spread[:, :100], "srht", 60).diagnosis


def test_the_warned_count_sketch_does_break_the_error_bars():
    rng = np.random.default_rng(0)
    for density, broken in ((0.01, True), (0.3, False)):
        rows = sparse_rows(rng, (100, 400), density)
        law = sketched(rows, "countsketch", 50)
        training, queries = rows[:-10], rows[-10:]
        draws = []
        for _ in range(150):
            matrix = projection_matrix(400, 50, kind="countsketch", rng=rng)
            left, right = training @ matrix, queries @ matrix
            draws.append(left @ np.linalg.solve(left.T @ left + 0.1 * np.eye(50), right.T))
        used = law.sd > 1e-6 * law.sd.max()
        ratio = np.std(draws, axis=0)[used] / law.sd[used]
        assert (np.sqrt(np.mean((ratio - 1) ** 2)) > 0.15) == broken
        assert (law.diagnosis != "") == broken


def test_overlaps_share_their_diagonal_within_bounds():
    """The share of the diagonal lies in [0, 1]: Σ_a M_aa² ≤ tr M²."""
    from trak_theory.laws.kernel_limit import kernel_limit
    from trak_theory.laws.rank_law import _overlaps, _sharing
    from trak_theory.laws.state_evolution import state_evolution

    state = state_evolution(n=300, p=200, ridge=5.0, signal=1.0)
    kernel = kernel_limit(state.design, k=80, projected_ridge=0.0)
    overlaps: Overlaps = _overlaps(state, kernel, 1)
    shared, same = _sharing(state, kernel, overlaps, 0.1)
    assert 0 < shared.estimate < shared.between < 1
    assert shared.truth == same.truth == same.estimate == same.between
    assert 0 < shared.truth < 1


def test_the_conditional_law_holds_on_very_sparse_rows_some_of_them_zero():
    """Kendall's τ_b leaves tied pairs out; so does the law."""
    rng = np.random.default_rng(0)
    rows, queries = sparse_rows(rng, (300, 60), 0.03), sparse_rows(rng, (20, 60), 0.03)
    queries = queries[np.abs(queries).any(1)]
    targets = (rng.random(300) < 1 / (1 + np.exp(-rows.sum(1)))).astype(float)
    lin = GLM(rows, targets, loss="logistic", ridge=3.0).fit().linearize(queries)
    assert (~rows.any(1)).mean() > 0.1
    setting = {"k": 25, "ridge": 3.0}
    found = [float(agreement(newton(lin), trak(lin, rng=rng, **setting)).kendall) for _ in range(20)]
    law = conditional_rank_law(lin, **setting)
    assert abs(np.mean(found) - law.kendall) < 4 * np.std(found) / np.sqrt(20) + 0.015
    assert "countsketch" in conditional_rank_law(lin, kind="countsketch", **setting).warnings[0]
    assert law.warnings == ()
