"""The a-priori rank law: reference values, limits, the law of the scores by Monte Carlo, and simulated data sets."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau, lognorm, multivariate_normal, pearsonr, spearmanr

from simulations.engine.study import Cell
from simulations.studies.laws.rank_grid import GRID, REPLICATES, compare, judge, run, spectrum_of
from simulations.studies.laws.rank_law import draw
from trak_theory import PseudoHuber, agreement, influence
from trak_theory.laws.design import design_of
from trak_theory.laws.gaussian_pair import GROUPS, ScoreLaw, upper_orthant
from trak_theory.laws.kernel_limit import kernel_limit
from trak_theory.laws.rank_law import rank_law, rank_law_of
from trak_theory.laws.state_evolution import state_evolution
from trak_theory.projection.matrices import projection_matrix

# n, p, k, λ, κ, μ, J | Pearson, Kendall, Spearman, slope: logistic, computed once by an independent program.
REFERENCE = [
    ((1000, 200, 100, 1.0, 2.0, 0.0, 1), (0.628, 0.432, 0.538, 0.0317)),
    ((1000, 500, 100, 20.0, 3.0, 0.0, 20), (0.784, 0.574, 0.713, 0.0102)),
    ((600, 1200, 590, 20.0, 3.0, 50.0, 1), (0.500, 0.333, 0.460, 0.0195)),
]


def power_law(p, decay):
    s = np.arange(1.0, p + 1) ** -decay
    return s * p / s.sum()


@pytest.mark.parametrize(("cell", "expected"), REFERENCE)
def test_reference_values(cell, expected):
    n, p, k, ridge, signal, mu, ensemble = cell
    law = rank_law(n=n, p=p, k=k, ridge=ridge, signal=signal, projected_ridge=mu, ensemble=ensemble)
    assert (law.pearson, law.kendall, law.spearman) == pytest.approx(expected[:3], abs=6e-4)
    assert law.slope == pytest.approx(expected[3], abs=6e-5)


@pytest.mark.parametrize(("k", "pearson"), [(50, 0.349), (200, 0.513), (400, 0.447)])
def test_reference_values_of_a_power_law_spectrum(k, pearson):
    settings = {"n": 500, "p": 800, "ridge": 1.0, "signal": 2.0, "projected_ridge": 0.5}
    law = rank_law(**settings, k=k, spectrum=power_law(800, 1.2))
    assert law.pearson == pytest.approx(pearson, abs=6e-4)


# ---- formulas


@pytest.mark.parametrize("loss", ["logistic", "poisson", "squared"])
@pytest.mark.parametrize(("p", "k", "mu"), [(200, 90, 0.0), (200, 90, 30.0), (900, 300, 0.0), (900, 500, 40.0)])
def test_the_general_law_is_the_isotropic_one(loss, p, k, mu):
    """The isotropic formulas, written out: nothing shared but the state."""
    n, ridge, ensemble = 400, 6.0, 3
    state = state_evolution(n=n, p=p, ridge=ridge, signal=0.8, loss=loss)
    law = rank_law_of(state, k=k, projected_ridge=mu, ensemble=ensemble)
    e2 = kernel_limit(state.design, k=k, projected_ridge=mu).e2
    df = n * e2 / (1 + e2)
    gamma = (p - df) / e2
    assert mu == pytest.approx(gamma * (1 - df / k), abs=1e-7)
    d, mean = state.points.curvature, state.points.mean
    eta = state.eta
    q12 = e2 / (n * mean(d / (1 + d * eta)) / (1 + e2) + ridge)
    q11 = eta / (n * mean(d / (1 + d * eta) ** 2) + ridge)
    q22 = e2 / (n / (1 + e2) ** 2 + gamma)
    v = q22 + gamma**2 * q22**2 / (ensemble * (k - df + gamma * e2 - gamma**2 * q22))
    rho = q12 / np.sqrt(q11 * v)
    assert law.pearson == pytest.approx(rho, rel=1e-7)
    assert law.kendall == pytest.approx(2 / np.pi * np.arcsin(rho), rel=1e-7)
    assert law.slope == pytest.approx(q12 / (q11 * (1 + e2)), rel=1e-7)


@given(st.integers(2, 450), st.floats(0.01, 0.99))
def test_isotropic_least_squares_without_ridge(p, share):
    """ρ² = (k/(n − k))/(p/(n − p)); the slope is that times 1 − p/n, since exact influence has the leverage in it."""
    n = 500
    k = max(1, round(share * p))
    law = rank_law(n=n, p=p, k=k, ridge=0.0, signal=1.3, loss="squared")
    square = k / (n - k) / (p / (n - p))
    assert law.pearson**2 == pytest.approx(square, rel=1e-6)
    assert law.slope == pytest.approx(square * (1 - p / n), rel=1e-6)


def test_the_slope_of_least_squares_has_the_factor_one_minus_p_over_n():
    """Ten data sets: the slope without that factor is refuted."""
    n, p, k = 400, 200, 100
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        data = draw(n=n, p=p, ridge=0.0, signal=1.0, loss="squared", rng=rng)
        found.append(data.measure(k=k, projected_ridge=0.0, ensemble=1, rng=rng)["slope"])
    mean, se = np.mean(found), np.std(found, ddof=1) / np.sqrt(10)
    square = k / (n - k) / (p / (n - p))
    assert abs(mean - square * (1 - p / n)) < 3.5 * se + 0.005
    assert abs(mean - square) > 10 * se


def test_limits():
    settings = {"n": 500, "p": 200, "ridge": 5.0, "signal": 2.0}
    state = state_evolution(**settings)
    # Infinitely many projections: the unprojected kernel at the implicit ridge.
    gamma = kernel_limit(state.design, k=80, projected_ridge=0.0).implicit_ridge
    many = rank_law_of(state, k=80, ensemble=10**9)
    explicit = rank_law_of(state, k=200, projected_ridge=gamma * (1 - 0), ensemble=10**9)
    unprojected = kernel_limit(state.design, k=np.inf, projected_ridge=gamma)
    assert unprojected.e2 == pytest.approx(kernel_limit(state.design, k=80, projected_ridge=0.0).e2, rel=1e-9)
    assert many.pearson > rank_law_of(state, k=80).pearson
    assert explicit.pearson != pytest.approx(many.pearson, rel=1e-3)  # k = p with ridge γ implies another ridge
    # k = p < n without a projected ridge changes nothing: the limit k → p is continuous, J does not matter.
    whole = rank_law_of(state, k=200)
    assert whole == rank_law_of(state, k=200, ensemble=7)
    assert rank_law_of(state, k=199).pearson == pytest.approx(whole.pearson, abs=5e-3)
    # Least squares without ridge: then TRAK is the influence function, and ranks are perfect.
    perfect = rank_law(n=500, p=200, k=200, ridge=0.0, signal=1.0, loss="squared")
    assert (perfect.pearson, perfect.kendall) == pytest.approx((1.0, 1.0), abs=1e-6)
    assert perfect.spearman == pytest.approx(1.0, abs=1e-3)
    assert perfect.slope == pytest.approx(0.6, rel=1e-9)
    # A tiny projected ridge is none, on both sides of p = n.
    for p, k in ((200, 120), (900, 300)):
        none, tiny = (rank_law(**{**settings, "p": p}, k=k, projected_ridge=mu) for mu in (0.0, 1e-9))
        assert tiny.pearson == pytest.approx(none.pearson, rel=1e-8)


def test_proportions_and_units_only():
    base = rank_law(n=400, p=300, k=120, ridge=8.0, signal=2.0, projected_ridge=4.0, ensemble=3)
    larger = rank_law(n=1200, p=900, k=360, ridge=24.0, signal=2.0, projected_ridge=12.0, ensemble=3)
    assert larger.pearson == pytest.approx(base.pearson, rel=1e-7)
    assert larger.slope == pytest.approx(base.slope, rel=1e-7)
    scaled = rank_law(
        n=400, p=300, k=120, ridge=72.0, signal=2.0, projected_ridge=36.0, ensemble=3, spectrum=np.full(300, 9.0)
    )
    assert scaled.pearson == pytest.approx(base.pearson, rel=1e-7)
    assert scaled.slope == pytest.approx(base.slope, rel=1e-7)


def test_agreement_dips_as_k_reaches_n_and_an_ensemble_never_hurts():
    state = state_evolution(n=400, p=800, ridge=8.0, signal=2.0)
    curve = [rank_law_of(state, k=k).kendall for k in (20, 100, 240, 360, 390, 398)]
    assert np.argmax(curve) == 2
    assert curve[-1] < 0.25 * max(curve)
    for k in (20, 240, 390):
        ensembles = [rank_law_of(state, k=k, ensemble=j).kendall for j in (1, 2, 10, 100)]
        assert ensembles == sorted(ensembles)


# ---- the kernel, by brute force

KERNELS = [(120, 60, 0.0, 0.0), (400, 100, 0.0, 0.0), (400, 150, 20.0, 0.0), (400, 100, 0.0, 1.0), (150, 100, 5.0, 1.0)]


@pytest.mark.parametrize(("p", "k", "mu", "decay"), KERNELS)
@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_the_projected_kernel_has_the_predicted_moments(p, k, mu, decay, spread):
    """tr ΣR and tr ΣKΣK of 12 drawn projected kernels, as z-scores with an allowance of 1 % for n = 300."""
    n, spectrum = 300, power_law(p, decay)
    scales = lognorm(spread) if spread else None
    limit = kernel_limit(design_of(n=n, p=p, signal=1.0, spectrum=spectrum, scales=scales), k=k, projected_ridge=mu)
    found = []
    for seed in range(12):
        rng = np.random.default_rng([seed, p, k])
        rows = rng.standard_normal((n, p)) * np.sqrt(spectrum) * np.exp(spread * rng.standard_normal((n, 1)))
        matrix = projection_matrix(p, k, rng=rng)
        projected = rows @ matrix
        kernel = matrix @ np.linalg.solve(projected.T @ projected + mu * np.eye(k), matrix.T) * spectrum
        found.append([np.trace(kernel), np.sum(kernel * kernel.T)])
    mean, se = np.mean(found, 0), np.std(found, 0, ddof=1) / np.sqrt(12)
    predicted = np.array([limit.e2, limit.square + limit.noise])
    assert np.all(np.abs(mean - predicted) < 3.5 * se + 0.01 * predicted), (mean, se, predicted)
    assert limit.noise > 20 * se[1] or limit.noise > 0.2 * limit.square  # the noise is seen


# ---- the law of the scores, by Monte Carlo


def laws():
    scales = lognorm(0.6)
    logistic = state_evolution(n=500, p=150, ridge=10.0, signal=1.5, scales=scales).points
    equal = state_evolution(n=500, p=150, ridge=10.0, signal=1.5).points
    squared = state_evolution(n=500, p=150, ridge=10.0, signal=1.5, loss="squared").points
    size = np.abs(logistic.residual) * logistic.scale
    return {
        "equal": ScoreLaw(np.abs(equal.residual), np.full(equal.weight.size, 0.7), equal.weight, 0.6),
        "normal": ScoreLaw(np.abs(squared.residual), np.full(squared.weight.size, 0.7), squared.weight, 0.9),
        "elliptical": ScoreLaw(size, 1 / (1 + 0.8 * logistic.scale**2), logistic.weight, 0.7),
        "influence": ScoreLaw(size, 1 - logistic.leverage, logistic.weight, 1.0),
    }


@pytest.mark.parametrize("name", ["equal", "normal", "elliptical", "influence"])
def test_measures_of_the_score_law_agree_with_drawn_scores(name):
    """20 samples of 20,000 scores; the short quadrature costs 1e-4, and 2e-3 where the factor varies and ρ = 1."""
    law = laws()[name]
    rng = np.random.default_rng(5)
    found = []
    for _ in range(20):
        points = rng.choice(law.weight.size, 20_000, p=law.weight / law.weight.sum())
        first, second = rng.standard_normal((2, points.size))
        truth = law.size[points] * first
        second = law.correlation * first + np.sqrt(1 - law.correlation**2) * second
        estimate = law.size[points] * law.factor[points] * second
        top = [array > np.quantile(array, 0.9) for array in (truth, estimate)]
        found.append(
            [
                pearsonr(truth, estimate).statistic,
                kendalltau(truth, estimate).statistic,
                spearmanr(truth, estimate).statistic,
                np.mean(top[0] & top[1]) / 0.1,
                truth @ estimate / (truth @ truth),
            ]
        )
    slope = law.correlation * law.gain
    predicted = np.array([law.pearson, law.kendall, law.spearman, law.top_overlap(0.1), slope])
    mean, se = np.mean(found, 0), np.std(found, 0, ddof=1) / np.sqrt(20)
    tolerance = 2e-3 if name == "influence" else 1e-4
    assert np.all(np.abs(mean - predicted) < 3.5 * se + tolerance), (mean, se, predicted)


def test_as_many_factors_as_there_are_groups_are_kept_apart():
    """One size for each factor, uneven weights: the double sum of arcsines is exact."""
    rng = np.random.default_rng(0)
    size, factor, weight = rng.uniform(0.5, 2.0, (3, GROUPS))
    weight /= weight.sum()
    between = 0.6 * size**2 * factor
    truth, estimate = size**2, (size * factor) ** 2
    cosine = np.add.outer(between, between) / np.sqrt(np.add.outer(truth, truth) * np.add.outer(estimate, estimate))
    law = ScoreLaw(size, factor, weight, 0.6)
    assert law.kendall == pytest.approx(2 / np.pi * weight @ np.arcsin(cosine) @ weight, abs=1e-10)


def test_the_law_of_one_projection_and_the_slope_of_the_influence_function():
    """By default J = 1; the influence function shrinks an influence by 1 − h, on average over A²."""
    state = state_evolution(n=500, p=150, ridge=10.0, signal=1.5, scales=lognorm(0.6))
    found = rank_law_of(state, k=60)
    assert found == rank_law_of(state, k=60, ensemble=1) != rank_law_of(state, k=60, ensemble=2)
    energy = state.points.weight * (state.points.residual * state.points.scale) ** 2
    assert found.influence.slope == pytest.approx(np.average(1 - state.points.leverage, weights=energy))


@given(st.floats(-3, 4), st.floats(-3, 4), st.floats(0.0, 0.999))
def test_upper_orthant_probability(a, b, correlation):
    exact = multivariate_normal.cdf([-a, -b], cov=[[1, correlation], [correlation, 1]], abseps=1e-11, releps=1e-11)
    assert upper_orthant(np.array([a]), np.array([b]), correlation)[0] == pytest.approx(exact, abs=2e-6)


# ---- (2/π) asin ρ, where it holds and where it fails

EQUAL = {
    "squared": {"loss": "squared", "signal": 1.0, "ridge": 6.0},
    "logistic": {"loss": "logistic", "signal": 1.5, "ridge": 6.0},
    "poisson": {"loss": "poisson", "signal": 0.5, "ridge": 6.0},
}


def simulate(design, *, spread, data_sets, k):
    rows = []
    for seed in range(data_sets):
        rng = np.random.default_rng([seed, 3])
        scales = np.exp(spread * rng.standard_normal(design["n"]) - spread**2) if spread else None
        data = draw(**design, scales=scales, rng=rng)
        rows.append(data.measure(k=k, projected_ridge=0.0, ensemble=1, rng=rng))
        first = agreement(data.truth, influence(data.fit.linearize(data.queries)))
        rows[-1] |= {"first_pearson": float(first.pearson), "first_kendall": float(first.kendall)}
    frame = pd.DataFrame(rows)
    return frame.mean(), frame.std(ddof=1) / np.sqrt(data_sets), frame


@pytest.mark.parametrize("name", EQUAL)
def test_kendall_is_the_arcsine_of_pearson_for_rows_of_equal_leverage(name):
    """Ten data sets; 0.2/√n for the finite size."""
    design = {"n": 500, "p": 200, **EQUAL[name]}
    mean, se, frame = simulate(design, spread=0.0, data_sets=10, k=140)
    law = rank_law(**design, k=140)
    assert law.kendall == pytest.approx(2 / np.pi * np.arcsin(law.pearson), abs=1e-9)
    assert abs(mean["kendall"] - law.kendall) < 3.5 * se["kendall"] + 0.2 / np.sqrt(500)
    gap = frame["kendall"] - 2 / np.pi * np.arcsin(frame["pearson"])
    assert abs(gap.mean()) < 3.5 * gap.std(ddof=1) / np.sqrt(10) + 0.2 / np.sqrt(500)


def test_elliptical_rows_break_the_arcsine_rule_and_keep_the_law():
    """Twenty data sets, log c of standard deviation 1: the rule is off by more than ten standard errors."""
    design = {"n": 500, "p": 200, "loss": "squared", "signal": 1.5, "ridge": 10.0}
    law = rank_law(**design, k=150, scales=lognorm(1.0, scale=np.exp(-1.0)))
    mean, se, frame = simulate(design, spread=1.0, data_sets=20, k=150)
    gap = frame["kendall"] - 2 / np.pi * np.arcsin(frame["pearson"])
    assert gap.mean() > 5 * gap.std(ddof=1) / np.sqrt(20)
    assert mean["kendall"] - 2 / np.pi * np.arcsin(law.pearson) > 10 * se["kendall"]
    for measure in ("kendall", "spearman", "pearson"):
        assert abs(mean[measure] - getattr(law, measure)) < 3.5 * se[measure] + 0.2 / np.sqrt(500), measure
    assert abs(mean["top_overlap"] - law.top_overlap) < 3.5 * se["top_overlap"] + 0.4 / np.sqrt(500)
    for measure in ("kendall", "pearson"):
        found, error = mean[f"first_{measure}"], se[f"first_{measure}"]
        assert abs(found - getattr(law.influence, measure)) < 3.5 * error + 0.4 / np.sqrt(500), measure


# ---- the grid of settings

IN_CI = [0, 2, 8, 9, 13, 15]  # settings of the grid that are cheap, with every covariance and loss


def grid_frame(settings):
    rows = []
    for index in settings:
        for params in GRID[index * (REPLICATES + 1) : (index + 1) * (REPLICATES + 1)]:
            rows += [{**params, **row} for row in run(params, Cell("rank_grid", params, 0).rng())]
    return pd.DataFrame(rows)


@pytest.mark.slow
def test_a_part_of_the_grid_holds_and_another_law_fails_it():
    frame = grid_frame(IN_CI)
    table = judge(compare(frame))
    kendall = table[table["measure"] == "kendall"]
    assert len(kendall) == len(IN_CI)
    assert kendall["holds"].all(), kendall[["mean", "se", "law", "allowed"]]
    assert (table["holds"] | ~table["gated"]).all()
    # The control: the laws of settings with a tenth fewer dimensions are refuted.
    wrong = frame.copy()
    for place in wrong.index[wrong["part"] == "law"]:
        row = wrong.loc[place]
        other = run({**GRID[0], **row[list(GRID[0])].to_dict(), "k": round(0.8 * row["k"])}, np.random.default_rng(0))
        wrong.loc[place, "kendall"] = other[0]["kendall"]
    verdict = judge(compare(wrong))
    assert not verdict.loc[verdict["measure"] == "kendall", "holds"].all()


def test_spectra_of_the_grid_have_mean_one():
    for covariance in ("isotropic", "decay 0.6", "decay 1.2", "spiked", "dominant", "elliptical"):
        assert spectrum_of(covariance, 90).mean() == pytest.approx(1.0)


# ---- warnings


def test_near_separable_data_are_flagged_and_well_posed_ones_are_not():
    near = state_evolution(n=500, p=150, ridge=0.01, signal=2.0)
    assert any("near-separable" in warning for warning in near.warnings)
    assert any("Pearson and slope unreliable" in warning for warning in rank_law_of(near, k=100).warnings)
    for settings in ({"p": 150, "ridge": 5.0}, {"p": 750, "ridge": 1.0}):
        state = state_evolution(n=500, signal=2.0, **settings)
        assert state.warnings == rank_law_of(state, k=100).warnings == ()


def test_the_sensitivity_is_the_change_with_n():
    settings = {"p": 1000, "ridge": 0.4, "signal": 2.0}
    fewer, state, more = (state_evolution(n=n, **settings) for n in (3998, 4000, 4002))
    change = -np.log(more.sigma / fewer.sigma) / np.log(4002 / 3998) / np.sqrt(4000)
    assert state.sensitivity == pytest.approx(change, rel=1e-2)


@pytest.mark.parametrize("settings", [{"n": 300, "p": 60, "ridge": 1.0}, {"n": 200, "p": 20, "ridge": 0.5}])
def test_the_dominance_is_a_change_of_rank_one(settings):
    """Isotropic rows: K = I/(nE d̃ + λ), and (K⁻¹ + δuuᵀ)⁻¹ with what the curvature along the fit is more or less."""
    state = state_evolution(signal=3.0, scales=lognorm(0.3), **settings)
    n, p = settings["n"], settings["p"]
    points, square = state.points, (state.points.output / state.points.scale) ** 2
    curvature = n * np.average(points.damped, weights=points.weight)
    along = n * np.average(points.damped, weights=points.weight * square)
    precision = np.full(p, curvature + settings["ridge"])
    before = np.sum(precision**-2)
    precision[0] += along - curvature
    change = np.sum(precision**-2) - before
    fed_back = 1 - n * np.average(points.damped**2, weights=points.weight) * before
    assert state.dominance == pytest.approx(change * fed_back / before, rel=1e-6)


def test_other_warnings():
    spread = state_evolution(n=60, p=50, ridge=0.01, signal=1.0, loss=PseudoHuber(1.0), noise=0.5)
    assert spread.sensitivity > 0.3
    assert spread.warnings == ()  # no loss of zero slope far out: nothing to separate
    strong = state_evolution(n=500, p=50, ridge=0.01, signal=4.0)
    assert any("one direction" in warning for warning in strong.warnings)
    squared = state_evolution(n=500, p=50, ridge=0.01, signal=4.0, loss="squared")
    assert (squared.warnings, squared.dominance) == ((), pytest.approx(0.0, abs=1e-9))
    dip = rank_law(n=400, p=800, k=397, ridge=8.0, signal=2.0, ensemble=10)
    assert any("k − df₂ = 2.96" in warning for warning in dip.warnings)
    few = rank_law(n=200, p=100, k=50, ridge=8.0, signal=2.0)
    assert any("top_overlap looks at 20 points" in warning for warning in few.warnings)
