"""The ridge rule: the kernel of random subsets is a full kernel with a larger ridge, and the best one for the LDS."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from support import digits_features
from support.problems import seeds

from trak_theory import Linearization
from trak_theory.laws.design import design_of
from trak_theory.laws.kernel_limit import unprojected_limit
from trak_theory.laws.lds_law import lds_law
from trak_theory.numerics.spectrum import gram_eigenvalues
from trak_theory.retraining.ridge_rule import (
    RidgeRule,
    TrainingRecipe,
    ridge_rule,
    rule_from_eigenvalues,
    subset_ridge,
)


def test_training_ridge_of_a_recipe():
    """By hand: 1000 (0.001 + 1/(300 · 0.2/(1 − 0.9)))."""
    recipe = TrainingRecipe(weight_decay=1e-3, learning_rates=0.2, steps=300, momentum=0.9)
    assert recipe.elapsed == pytest.approx(600)
    assert recipe.ridge(1000) == pytest.approx(1000 * (1e-3 + 1 / 600))
    schedule = TrainingRecipe(weight_decay=1e-3, learning_rates=np.full(300, 0.2), momentum=0.9)
    assert schedule.ridge(1000) == pytest.approx(recipe.ridge(1000))


def test_early_stopping_is_a_ridge_where_it_is_exact():
    """Gradient flow on ½ s θ² − s θ from 0 for time τ: 1 − e^(−sτ) against s/(s + 1/τ), equal to first order in sτ."""
    s = 1e-3
    steps, rate, momentum = 2000, 0.01, 0.9
    theta = velocity = 0.0
    for _ in range(steps):
        velocity = momentum * velocity + s * (theta - 1)
        theta -= rate * velocity
    ridge = 1 / TrainingRecipe(0.0, rate, steps=steps, momentum=momentum).elapsed
    assert theta == pytest.approx(s / (s + ridge), rel=0.1)  # sτ/2 = 0.1 of second order
    assert abs(theta - s / (s + 0.1 * ridge)) > 5 * abs(theta - s / (s + ridge))


@given(seed=seeds, fraction=st.sampled_from([0.1, 0.25, 0.5, 0.9, 1.0]), n=st.integers(5, 60))
def test_subset_ridge_solves_its_equations(seed, fraction, n):
    rng = np.random.default_rng(seed)
    eigenvalues = rng.lognormal(0, 3, int(rng.integers(1, n + 1)))
    ridge = rng.lognormal(0, 2)
    found = subset_ridge(eigenvalues, ridge, n=n, fraction=fraction)
    x = np.sum(eigenvalues / (eigenvalues + found)) / n
    inflation = found / ridge  # 1 + (1 − α)e
    e = x / (1 - x) * inflation / fraction
    assert inflation == pytest.approx(1 + (1 - fraction) * e, rel=1e-6)
    assert found >= ridge * (1 - 1e-8)
    assert x <= fraction + 1e-9


def test_the_mean_kernel_of_random_subsets():
    """Alike points: E_S (Φ_SᵀΦ_S + αλI)⁻¹ ≃ (λ_α/(αλ)) (ΦᵀΦ + λ_αI)⁻¹, and not so at λ itself."""
    rng = np.random.default_rng(0)
    n, p, fraction, ridge, draws = 100, 60, 0.5, 10.0, 300
    features = rng.standard_normal((n, p))
    rule = subset_ridge(gram_eigenvalues(features), ridge, n=n, fraction=fraction)

    def resolvent(rows, penalty):
        return np.linalg.inv(rows.T @ rows + penalty * np.eye(p))

    slopes = {"rule": [], "own": []}
    expected = {
        name: penalty / (fraction * ridge) * resolvent(features, penalty)
        for name, penalty in (("rule", rule), ("own", ridge))
    }
    for _ in range(draws):
        kernel = resolvent(features[rng.random(n) < fraction], fraction * ridge)
        for name, full in expected.items():
            slopes[name].append(np.sum(kernel * full) / np.sum(full**2))
    mean, error = np.mean(slopes["rule"]), np.std(slopes["rule"]) / np.sqrt(draws)
    assert abs(mean - 1) < 4 * error + 2 / n  # O(1/n) of the equivalent
    assert abs(np.mean(slopes["own"]) - 1) > 0.2


@pytest.mark.parametrize(
    ("p", "ridge", "fraction", "signal", "noise"),
    [(200, 50.0, 0.5, 1.0, 1.0), (500, 20.0, 0.5, 2.0, 0.5), (2000, 300.0, 0.5, 1.0, 1.0), (500, 20.0, 0.25, 1.0, 1.0)],
)
def test_the_rule_maximises_the_lds_law(p, ridge, fraction, signal, noise):
    """Isotropic least squares: the maximum of an independent law over all scoring ridges."""
    n = 1000

    def loss(log_ridge):
        law = lds_law(
            n=n,
            p=p,
            k=50,
            ridge=ridge,
            signal=signal,
            noise=noise,
            fraction=fraction,
            projected_ridge=10.0,
            scoring_ridge=np.exp(log_ridge),
        )
        return -law.kernel

    best = minimize_scalar(loss, bounds=(np.log(ridge) - 2, np.log(ridge) + 6), method="bounded")
    # The limit's own trace: x = e/(1 + e) solves p = ne/(1 + e) + λe, the df of eigenvalues in the limit.
    found = np.exp(best.x)
    e2 = unprojected_limit(design_of(n=n, p=p, signal=signal), found).e2
    assert ridge / found == pytest.approx(1 - e2 * (1 - fraction) / fraction, abs=1e-4)
    assert loss(np.log(ridge)) > best.fun + 1e-5


def test_the_kernels_of_the_rule():
    lin = digits_features.network_gradients()
    recipe = TrainingRecipe(1e-3, 0.2, steps=100, momentum=0.9)
    n, k = len(lin.features), 140
    rule = ridge_rule(lin, recipe, fraction=0.5, k=k)
    assert rule.training == pytest.approx(recipe.ridge(n))
    assert rule.unit_curvature == pytest.approx(rule.curvature_weighted / lin.curvature.mean())
    eigenvalues = np.linalg.eigvalsh(lin.features @ lin.features.T)
    df = np.sum(eigenvalues / (eigenvalues + rule.unit_curvature))
    assert rule.projected == pytest.approx(rule.unit_curvature * (1 - df / k))
    assert rule.warnings == ()
    tight = ridge_rule(lin, recipe, fraction=0.5, k=int(df) - 1)
    assert tight.projected == 0
    assert f"use k > {df:.0f}" in tight.warnings[0]
    assert ridge_rule(lin, recipe).curvature_weighted == rule.training
    spectra = {"weighted": np.ones(3), "plain": np.ones(3), "mean_curvature": 0.2, "n": 9, "fraction": None}
    assert rule_from_eigenvalues(2.0, **spectra, k=None) == RidgeRule(2.0, 2.0, pytest.approx(10.0), None, ())
    narrow = rule_from_eigenvalues(2.0, **{**spectra, "mean_curvature": 20.0}, k=2)
    assert narrow.projected == 0
    assert "k = 2 is below the 3 degrees of freedom" in narrow.warnings[0]
    with pytest.raises(TypeError, match="positional"):
        rule_from_eigenvalues(2.0, *spectra.values(), None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight_decay": -1.0, "learning_rates": 0.1, "steps": 3}, "weight_decay must be finite and ≥ 0, got -1"),
        ({"weight_decay": 0.0, "learning_rates": [0.1, np.nan]}, "learning_rates has 1 non-finite"),
        ({"weight_decay": 0.0, "learning_rates": [0.1, 0.1], "steps": 3}, "steps = 3 but 2 learning rates"),
        ({"weight_decay": 0.0, "learning_rates": 0.1, "steps": 3, "momentum": 1.0}, "momentum must lie in"),
        ({"weight_decay": 0.0, "learning_rates": 0.1, "steps": 3, "momentum": -0.5}, "momentum must lie in"),
        ({"weight_decay": 0.0, "learning_rates": [0.0]}, "all learning rates are 0"),
    ],
)
def test_wrong_recipes_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainingRecipe(**settings)


def test_flat_losses_have_no_rule():
    lin = Linearization(np.eye(3), np.ones(3), np.zeros(3), 0.0, np.eye(3))
    with pytest.raises(ValueError, match="all curvatures are 0"):
        ridge_rule(lin, TrainingRecipe(1e-3, 0.1, steps=3))


@pytest.mark.parametrize(("decay", "residual", "warned"), [(0.0, 1e-3, True), (1e-3, 1e-3, False), (0.0, 0.1, False)])
def test_a_run_that_interpolates_is_warned_of(decay, residual, warned):
    rows = np.random.default_rng(0).standard_normal((20, 5))
    lin = Linearization(rows, np.full(20, residual), np.full(20, 0.01), 0.0, rows[:2])
    warnings = ridge_rule(lin, TrainingRecipe(decay, 0.1, steps=2000)).warnings
    assert bool(warnings) == warned
    assert not warned or "interpolates" in warnings[0]
    assert ridge_rule(lin, 1e-3).warnings == ()
