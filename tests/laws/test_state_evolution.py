"""State evolution: published values, closed forms, an independent slow twin, and simulated fits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit
from scipy.stats import lognorm

from simulations.studies.laws.rank_law import draw
from trak_theory import Logistic, Poisson, PseudoHuber, Squared
from trak_theory.errors import ConvergenceError
from trak_theory.laws.channels import Additive, Bernoulli, Counts, Labels
from trak_theory.laws.design import design_of
from trak_theory.laws.proximal import proximal
from trak_theory.laws.state_equations import Equations
from trak_theory.laws.state_evolution import state_evolution
from trak_theory.numerics.quadrature import gauss_rule, normal_rule

LOSSES = {loss.name: loss for loss in (Squared(), Logistic(), Poisson(), PseudoHuber(0.5))}


# ---- the proximal operator


@given(
    st.sampled_from(sorted(LOSSES)),
    st.floats(-30, 30),
    st.floats(-8, 8).map(lambda exponent: 10.0**exponent),
    st.integers(0, 6),
)
def test_the_proximal_point_is_the_minimum_that_a_search_finds(name, output, step, count):
    loss = LOSSES[name]
    target = float(count % 2) if name == "logistic" else float(count)
    found = proximal(loss, target, output, step)
    with np.errstate(over="ignore"):
        # The objective falls strictly on one side of the minimum and rises on the other: its slope changes sign there.
        def slope(f):
            return f - output + step * loss.residual(np.float64(target), np.float64(f))

        width = 1e-9 * max(1.0, abs(float(found.output)))
        assert slope(found.output - width) < 0 < slope(found.output + width)
    assert found.residual == loss.residual(np.float64(target), found.output)
    assert found.curvature == loss.curvature(np.float64(target), found.output)


def test_the_proximal_point_agrees_with_brute_force_minimisation():
    rng = np.random.default_rng(0)
    for loss in LOSSES.values():
        for step in (1e-3, 1.0, 1e3):
            outputs = 3 * rng.standard_normal(5)
            targets = rng.integers(0, 2, 5).astype(float)
            found = proximal(loss, targets, outputs, step).output
            for y, z, f in zip(targets, outputs, found, strict=True):

                def objective(g, y=y, z=z, loss=loss, step=step):
                    return step * float(loss.value(np.float64(y), np.float64(g))) + 0.5 * (g - z) ** 2

                best = minimize_scalar(objective, bounds=(-40, 40), method="bounded", options={"xatol": 1e-10}).x
                # A minimum is located to the square root of the rounding of its value.
                assert f == pytest.approx(best, abs=1e-5)


def test_a_huge_step_where_plain_newton_diverges():
    y, z, step, loss = np.zeros(1), np.full(1, 8.0), 1e6, Logistic()
    f = z.copy()
    for _ in range(50):
        f = f - (f + step * loss.residual(y, f) - z) / (1 + step * loss.curvature(y, f))
    assert abs(f + step * loss.residual(y, f) - z) > 1.0  # plain Newton: a wrong root, silently
    found = proximal(loss, y, z, step)
    assert abs(found.output + step * found.residual - z) <= 1e-9 * (1 + step * found.curvature)


def test_far_outputs_on_the_steep_side_of_an_exponential():
    """Newton's method alone comes back one unit at a step there."""
    outputs = np.array([50.0, 300.0, 690.0, 5e3, 1e6])
    found = proximal(Poisson(), 0.0, outputs, 1.0)
    assert found.output + found.residual == pytest.approx(outputs, rel=1e-12)


def test_a_loss_with_a_wrong_derivative_gets_an_error_and_not_a_root():
    class NotALoss(Logistic):
        name = "not a loss"

        def residual(self, targets, outputs):
            return np.where(outputs > 0.3, np.nan, 1.0)

    with pytest.raises(ConvergenceError, match="residual f"):
        proximal(NotALoss(), np.zeros(1), np.ones(1), 1.0)


# ---- quadrature


def test_a_state_is_shown_by_its_numbers_and_not_by_its_quadrature():
    assert repr(state_evolution(n=200, p=50, ridge=5.0, signal=1.0)).count("array") == 0


@pytest.mark.parametrize(
    ("kappa", "alpha", "sigma"), [(1.0, 0.8, 0.3), (2.5, 0.9, 0.2), (0.5, 0.1, 0.01), (3.0, 2.0, 4.0)]
)
@pytest.mark.parametrize("channel", [Bernoulli(), Counts(), Additive(0.7)], ids=["bernoulli", "counts", "additive"])
def test_channel_quadrature_has_the_exact_moments(channel, kappa, alpha, sigma):
    points = channel.points(kappa, alpha, sigma, 80)
    assert points.weight.sum() == pytest.approx(1, abs=1e-9)
    if not isinstance(channel, Bernoulli):  # of which the points with y = 1 stand for both labels
        assert points.signal.sum() == pytest.approx(0, abs=1e-9)
    spread = alpha**2 * kappa**2 + sigma**2
    if isinstance(channel, Additive):
        spread = (1 - alpha) ** 2 * kappa**2 + sigma**2 + 0.49
        assert points.signal @ points.output == pytest.approx((alpha - 1) * kappa**2, abs=1e-9 * kappa**2)
    else:
        assert points.signal @ points.output == pytest.approx(alpha * kappa**2, rel=1e-8)
    assert points.weight @ points.output**2 == pytest.approx(spread, rel=1e-9)
    if isinstance(channel, Counts):
        mean = np.exp(kappa**2 / 2)
        assert points.weight @ points.label == pytest.approx(mean, rel=1e-6)
        assert points.signal @ points.label == pytest.approx(kappa**2 * mean, rel=1e-6)


@pytest.mark.parametrize("channel", [Bernoulli(), Counts(), Additive(0.7)], ids=["bernoulli", "counts", "additive"])
@pytest.mark.parametrize("signal", [-1.5, 0.4, 2.0])
def test_sampled_labels_have_the_mean_of_the_channel(channel, signal):
    """z-scores of 20,000 labels."""
    labels = channel.sample(np.full(20_000, signal), np.random.default_rng(0))
    mean = {Bernoulli: expit, Counts: np.exp, Additive: float}[type(channel)](signal)
    assert abs(labels.mean() - mean) < 4 * labels.std() / np.sqrt(labels.size)


def test_labels_without_noise_that_the_output_equals():
    """z = s = y: the pair (0, z − y) is all zeros."""
    points = Additive(0.0).points(1.0, 1.0, 0.0, 20)
    assert not points.output.any()
    assert not points.signal.any()


def test_poisson_probabilities_agree_with_a_direct_integral():
    points = Counts().points(1.0, 0.8, 0.3, 80)
    nodes, weights = np.polynomial.hermite_e.hermegauss(150)
    weights = weights / weights.sum()
    for count in (0.0, 1.0, 3.0, 12.0):
        from scipy.stats import poisson

        direct = weights @ poisson.pmf(count, np.exp(nodes))
        assert points.weight[points.label == count].sum() == pytest.approx(direct, rel=1e-8)


def test_a_gauss_rule_is_exact_for_polynomials_and_keeps_short_measures_whole():
    rng = np.random.default_rng(1)
    points, weights = rng.uniform(-1, 2, 500), rng.random(500)
    nodes, masses = gauss_rule(points, weights, 6)
    assert nodes.size == 6
    for degree in range(12):
        assert masses @ nodes**degree == pytest.approx(weights @ points**degree, rel=1e-11)
    assert abs(masses @ nodes**12 / (weights @ points**12) - 1) > 1e-9  # a rule of six nodes ends at degree eleven
    nodes, masses = gauss_rule(np.array([3.0, 1.0, 3.0]), np.array([1.0, 2.0, 4.0]), 5)
    assert nodes.tolist() == [1.0, 3.0]
    assert masses.tolist() == [2.0, 5.0]


# ---- published values


def test_sur_and_candes_unregularised_logistic_regression():
    state = state_evolution(n=1000, p=200, ridge=0.0, signal=np.sqrt(5))
    values = (state.alpha, state.sigma / np.sqrt(0.2), state.eta)
    assert values == pytest.approx((1.4994, 4.7436, 3.0269), abs=6e-5)


def test_salehi_ridge_logistic_regression():
    state = state_evolution(n=1000, p=500, ridge=500.0, signal=1.0)
    assert (state.alpha, state.sigma) == pytest.approx((0.2525, 0.4223), abs=6e-5)


def test_a_root_without_ridge_exists_exactly_below_the_separability_threshold():
    """Candès & Sur: separable with probability one iff p/n > min_t E(tV − Z)₊², V = s/κ signed by the label."""
    kappa = 2.0
    nodes, weights = normal_rule(200)
    joint = 2 * weights * expit(kappa * nodes)  # the law of y x for y = ±1

    def loss_of(t):
        return float(joint @ (np.maximum(nodes[None] - t * nodes[:, None], 0) ** 2 @ weights))

    threshold = minimize_scalar(loss_of, bounds=(-20, 20), method="bounded").fun
    n = 10_000
    state_evolution(n=n, p=round(0.95 * threshold * n), ridge=0.0, signal=kappa)
    with pytest.raises(ConvergenceError, match="relative residual"):
        state_evolution(n=n, p=round(1.05 * threshold * n), ridge=0.0, signal=kappa)


# ---- closed forms, twins, invariances


@given(
    st.floats(0.05, 5.0),
    st.floats(-3, 2).map(lambda e: 10.0**e),
    st.floats(0.01, 5.0) | st.just(0.0),
    st.floats(0.1, 5.0),
)
def test_least_squares_in_closed_form(ratio, ridge_over_n, signal, noise):
    n = 1000
    p, ridge = round(ratio * n), ridge_over_n * n
    state = state_evolution(n=n, p=p, ridge=ridge, signal=signal, loss="squared", noise=noise)
    eta = (p - n - ridge + np.sqrt((n + ridge - p) ** 2 + 4 * ridge * p)) / (2 * ridge)
    alpha = n / (n + ridge * (1 + eta)) if signal else 0.0
    # pσ² = nη²(τ² + σ²)/(1 + η)², τ² = (1 − α)²κ² + noise²
    factor = n * eta**2 / (p * (1 + eta) ** 2)
    variance = factor * ((1 - alpha) ** 2 * signal**2 + noise**2) / (1 - factor)
    assert (state.alpha, state.sigma, state.eta) == pytest.approx((alpha, np.sqrt(variance), eta), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("loss", ["logistic", "poisson", "huber"])
def test_the_isotropic_equations_hold_on_an_independent_quadrature(loss):
    """(s, ξ) by Gauss–Hermite, labels one by one, the proximal point by brentq: nothing shared but the loss."""
    n, p, ridge, kappa = 1000, 400, 30.0, 1.0
    state = state_evolution(n=n, p=p, ridge=ridge, signal=kappa, loss=loss)
    model = LOSSES[loss] if loss != "huber" else PseudoHuber(1.0)
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    weights = weights / weights.sum()
    correlation = energy = trace = 0.0
    for s, ws in zip(kappa * nodes, weights, strict=True):
        for y, wy in labels_given(loss, s, nodes, weights):
            for xi, wx in zip(nodes, weights, strict=True):
                weight = ws * wy * wx
                if weight < 1e-11:
                    continue
                z = state.alpha * s + state.sigma * xi

                def gap(f, y=y, z=z):
                    return f - z + state.eta * float(model.residual(np.float64(y), np.float64(f)))

                f = brentq(gap, -60, 60, xtol=1e-12)
                r, d = (float(g(np.float64(y), np.float64(f))) for g in (model.residual, model.curvature))
                correlation += weight * r * s
                energy += weight * r**2
                trace += weight * state.eta * d / (1 + state.eta * d)
    assert n * correlation + ridge * state.alpha * kappa**2 == pytest.approx(0, abs=1e-4 * n * abs(correlation))
    assert p * state.sigma**2 == pytest.approx(n * state.eta**2 * energy, rel=1e-4)
    assert p == pytest.approx(n * trace + ridge * state.eta, rel=1e-4)
    assert state.square_residual == pytest.approx(energy, rel=1e-4)


def labels_given(loss, s, nodes, weights):
    if loss == "logistic":
        return [(1.0, expit(s)), (0.0, expit(-s))]
    if loss == "huber":
        return [(s + e, w) for e, w in zip(nodes, weights, strict=True)]
    from scipy.stats import poisson

    return [(float(y), poisson.pmf(y, np.exp(s))) for y in range(int(np.exp(s) + 12 * np.exp(s / 2) + 15))]


def solve(**changes):
    settings = {"n": 600, "p": 240, "ridge": 12.0, "signal": 1.5, "loss": "logistic"}
    state = state_evolution(**{**settings, **changes})
    return np.array([state.alpha, state.sigma, state.eta])


def test_invariances():
    base = solve()
    assert solve(n=1800, p=720, ridge=36.0) == pytest.approx(base, rel=1e-7)  # proportions only
    flat = np.full(240, 9.0)
    assert solve(spectrum=flat, ridge=108.0) == pytest.approx(base, rel=1e-7)  # units of the features
    assert solve(signal=np.full(240, 1.5 / np.sqrt(240))) == pytest.approx(base, rel=1e-7)
    assert solve(scales=np.ones(7)) == pytest.approx(base, rel=1e-7)
    # Twice the scale is four times the spectrum; α, σ, η are per unit scale.
    doubled = solve(spectrum=np.full(240, 4.0), signal=3.0)
    assert solve(scales=np.full(3, 2.0)) == pytest.approx(doubled * [1, 0.5, 0.25], rel=1e-7)
    spectrum, coordinates = np.arange(1.0, 241) ** -0.7, np.linspace(0.1, 0.3, 240)
    order = np.random.default_rng(0).permutation(240)
    permuted = solve(spectrum=spectrum[order], signal=coordinates[order])
    assert permuted == pytest.approx(solve(spectrum=spectrum, signal=coordinates), rel=1e-7)


def test_columns_that_never_vary_do_not_matter():
    assert solve(p=300, spectrum=np.r_[np.ones(240), np.zeros(60)]) == pytest.approx(solve(), rel=1e-6)


def test_scales_as_an_array_and_as_their_distribution_agree():
    drawn = lognorm(0.4).rvs(200_000, random_state=np.random.default_rng(0))
    assert solve(scales=drawn) == pytest.approx(solve(scales=lognorm(0.4)), rel=5e-3)  # 1/√200,000, times a moment


def test_the_equations_hold_at_four_times_the_nodes():
    for loss, signal in (("logistic", 2.5), ("poisson", 1.0), ("huber", 1.0)):
        state = state_evolution(n=500, p=300, ridge=5.0, signal=signal, loss=loss)
        from trak_theory.laws.channels import channel_of

        model = {**LOSSES, "huber": PseudoHuber()}[loss]
        equations = Equations(design_of(n=500, p=300, signal=signal), 5.0, model, channel_of(model, None))
        unknowns = np.array([state.alpha, np.log(state.sigma), np.log(state.eta)])
        points = equations.points(unknowns, 4 * equations.counts(unknowns))
        assert np.abs(equations.gap(unknowns, points)).max() < 1e-8


# ---- simulated fits

CELLS = {
    "logistic": {"loss": "logistic", "signal": 2.0, "ridge": 8.0},
    "poisson": {"loss": "poisson", "signal": 0.7, "ridge": 8.0},
    "huber": {"loss": "huber", "signal": 1.0, "ridge": 4.0},
    "p above n": {"loss": "logistic", "signal": 2.0, "ridge": 20.0, "p": 700},
    "power law": {"loss": "logistic", "signal": 2.0, "ridge": 4.0, "decay": 1.0},
    "elliptical": {"loss": "logistic", "signal": 1.0, "ridge": 8.0, "spread": 0.5},
}


@pytest.mark.parametrize("name", CELLS)
def test_fits_have_the_predicted_state(name):
    """α, σ² and the mean leverage of 12 fits of 400 points, as z-scores; 0.3/√n for the finite size."""
    cell = {"n": 400, "p": 160, **CELLS[name]}
    decay, spread = cell.pop("decay", None), cell.pop("spread", None)
    spectrum = None
    if decay:
        spectrum = np.arange(1, cell["p"] + 1) ** -decay
        spectrum *= cell["p"] / spectrum.sum()
    state = state_evolution(**cell, spectrum=spectrum, scales=lognorm(spread) if spread else None)
    found = []
    for seed in range(12):
        rng = np.random.default_rng([seed, 7])
        scales = np.exp(spread * rng.standard_normal(cell["n"])) if spread else None
        data = draw(**cell, spectrum=spectrum, scales=scales, rng=rng)
        deviations = np.ones(cell["p"]) if spectrum is None else np.sqrt(spectrum)
        fitted, truth = deviations * data.fit.coef, deviations * data.signal
        alpha = fitted @ truth / (truth @ truth)
        noise = np.sum((fitted - alpha * truth) ** 2)
        found.append([alpha, np.sqrt(noise), data.fit.linearize(data.queries).leverage.mean()])
    predicted = [state.alpha, state.sigma, state.points.mean(state.points.leverage)]
    mean, se = np.mean(found, 0), np.std(found, 0, ddof=1) / np.sqrt(12)
    assert np.all(np.abs(mean - predicted) <= 3.5 * se + 0.3 / np.sqrt(cell["n"]) * np.abs(predicted)), (
        mean,
        se,
        predicted,
    )


def test_a_channel_of_ones_own_is_simulated_as_predicted():
    """Logistic regression on labels of which a tenth are flipped."""
    flipped = Labels((0.0, 1.0), lambda y, s: 0.1 + 0.8 * expit((2 * y - 1) * s))
    state = state_evolution(n=400, p=120, ridge=4.0, signal=2.0, channel=flipped)
    clean = state_evolution(n=400, p=120, ridge=4.0, signal=2.0)
    found = []
    for seed in range(12):
        data = draw(n=400, p=120, ridge=4.0, signal=2.0, channel=flipped, rng=np.random.default_rng(seed))
        found.append(data.fit.coef @ data.signal / (data.signal @ data.signal))
    se = np.std(found, ddof=1) / np.sqrt(12)
    assert abs(np.mean(found) - state.alpha) < 3.5 * se + 0.01
    assert abs(np.mean(found) - clean.alpha) > 8 * se


@pytest.mark.parametrize("loss", ["logistic", "poisson", "huber"])
def test_the_root_is_refined_and_not_searched_again(loss, monkeypatch):
    """Work counted in evaluations: a rough root and its Jacobian take twenty, a doubling of nodes one or two."""
    evaluations = []
    points = Equations.points
    monkeypatch.setattr(Equations, "points", lambda *given: evaluations.append(1) or points(*given))
    state_evolution(n=1000, p=500, ridge=10.0, signal=1.0, loss=loss)
    assert len(evaluations) <= 28
