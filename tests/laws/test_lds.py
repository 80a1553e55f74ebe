"""The law of the linear datamodelling score: closed forms, limits, and retraining on random subsets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.studies.laws.lds_law import correlation, explained, retrain
from simulations.studies.laws.rank_law import draw
from trak_theory import drop_ridge, influence, trak, unit_curvature
from trak_theory.laws.lds_law import SubsetLaw, lds_law
from trak_theory.laws.rank_law import rank_law


def test_reference_values():
    law = lds_law(n=1000, p=200, k=100)
    assert (law.ceiling, law.exact, law.trak) == pytest.approx((0.866, 0.866, 0.577), abs=6e-4)


@given(st.integers(5, 240), st.floats(0.3, 0.95), st.floats(0.05, 0.99), st.floats(0.01, 10.0))
def test_without_ridge_in_closed_form(p, fraction, share, noise):
    """ceiling² = (1 − ψ/α)/(1 − ψ); exact influence attains it; TRAK has ρ of it; noise and signal drop out."""
    n = 1000
    k = max(1, round(share * p))
    law = lds_law(n=n, p=p, k=k, fraction=fraction, noise=noise, signal=2.0, ensemble=3)
    ceiling = np.sqrt((1 - p / (n * fraction)) / (1 - p / n))
    rho = rank_law(n=n, p=p, k=k, ridge=0.0, signal=1.0, loss="squared", ensemble=3).pearson
    assert (law.ceiling, law.exact) == pytest.approx((ceiling, ceiling), rel=1e-6)
    assert law.trak == pytest.approx(rho * ceiling, rel=1e-6)


@given(st.floats(0.05, 3.0), st.floats(0.001, 3.0), st.floats(0.1, 0.9), st.floats(0.001, 10.0), st.floats(0.0, 3.0))
def test_no_score_passes_the_ceiling(ratio, ridge, fraction, scoring, signal):
    n = 500
    p = round(ratio * n)
    law = lds_law(
        n=n,
        p=p,
        k=max(1, min(n, p) // 2),
        ridge=ridge * n,
        signal=signal,
        fraction=fraction,
        scoring_ridge=scoring * n,
    )
    assert 0 < law.trak <= law.ceiling + 1e-9
    assert max(law.exact, law.kernel) <= law.ceiling + 1e-9 <= 1 + 1e-8


def test_limits():
    settings = {"n": 500, "p": 700, "ridge": 50.0, "signal": 1.5}
    many = lds_law(**settings, k=200, ensemble=10**9)
    assert many.trak == pytest.approx(many.kernel, rel=1e-6)  # at the implicit ridge
    same = lds_law(**settings, k=200, scoring_ridge=50.0)
    assert same.kernel == pytest.approx(same.exact, rel=1e-9)  # scored at the model's own ridge: exact influence
    whole = lds_law(n=500, p=100, k=100, ridge=10.0)
    assert whole.trak == pytest.approx(lds_law(n=500, p=100, k=50, ridge=10.0, scoring_ridge=0.0).kernel, rel=1e-9)


@pytest.mark.parametrize(("p", "ridge", "signal", "noise"), [(60, 40.0, 2.0, 0.5), (400, 30.0, 1.5, 1.0)])
def test_errors_of_fits_that_share_points_have_the_predicted_covariance(p, ridge, signal, noise):
    """40 pairs of ridge fits: on a half and on all, on two halves that share a quarter; allowance 1 %."""
    n = 300
    law = SubsetLaw(n, p, 0.5, ridge, signal, noise)
    found = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        truth = rng.standard_normal(p)
        truth *= signal / np.linalg.norm(truth)
        rows = rng.standard_normal((n, p))
        targets = rows @ truth + noise * rng.standard_normal(n)

        def error(chosen, decay, rows=rows, targets=targets, truth=truth):
            kernel = rows[chosen] @ rows[chosen].T + decay * np.eye(len(targets[chosen]))
            return rows[chosen].T @ np.linalg.solve(kernel, targets[chosen]) - truth

        whole, half, other = (
            error(part, decay)
            for part, decay in (
                (slice(None), ridge),
                (slice(0, 150), ridge / 2),
                (slice(75, 225), ridge / 2),
            )
        )
        found.append([whole @ whole, half @ whole, half @ half, half @ other])
    errors = np.array(
        [
            law.error(law.whole, law.whole, 300),
            law.error(law.subset, law.whole, 150),
            law.error(law.subset, law.subset, 150),
            law.error(law.subset, law.subset, 75),
        ]
    )
    predicted = errors - noise**2  # `error` includes the noise of a new label
    mean, se = np.mean(found, 0), np.std(found, 0, ddof=1) / np.sqrt(40)
    assert np.all(np.abs(mean - predicted) < 3.5 * se + 0.01 * predicted), (mean, se, predicted)


DESIGNS = [
    {"n": 300, "p": 60, "k": 30, "ridge": 0.0, "fraction": 0.5, "scoring_ridge": 30.0},
    {"n": 300, "p": 60, "k": 40, "ridge": 30.0, "fraction": 0.3, "scoring_ridge": 90.0, "ensemble": 3},
    {"n": 200, "p": 400, "k": 100, "ridge": 20.0, "fraction": 0.5, "scoring_ridge": 300.0, "projected_ridge": 10.0},
]


@pytest.mark.parametrize("design", DESIGNS)
def test_retrained_subsets(design, monkeypatch):
    """Four scores over six data sets with 800 subsets each, as z-scores with an allowance of 0.2/√n."""
    design = {"ensemble": 1, "projected_ridge": 0.0, **design}
    monkeypatch.setattr("simulations.studies.laws.lds_law.SUBSETS", 800)
    monkeypatch.setattr("simulations.studies.laws.lds_law.FRACTION", design["fraction"])
    law = lds_law(**design, signal=1.0, noise=0.7)
    found = []
    for seed in range(6):
        rng = np.random.default_rng([seed, 11])
        data = draw(n=design["n"], p=design["p"], ridge=design["ridge"], signal=1.0, loss="squared", noise=0.7, rng=rng)
        members, outputs = retrain(data, design["ridge"], rng)
        lin = data.fit.linearize(data.queries)
        kernel = influence(drop_ridge(unit_curvature(lin), ridge=design["scoring_ridge"]))
        scores = trak(lin, k=design["k"], ensemble=design["ensemble"], ridge=design["projected_ridge"], rng=rng)
        found.append([correlation(members @ values, outputs) for values in (data.truth, kernel, scores)])
        found[-1].append(explained(members, outputs))
    mean, se = np.mean(found, 0), np.std(found, 0, ddof=1) / np.sqrt(6)
    predicted = np.array([law.exact, law.kernel, law.trak, law.ceiling])
    assert np.all(np.abs(mean - predicted) < 3.5 * se + 0.2 / np.sqrt(design["n"])), (mean, se, predicted)
    if design["p"] > design["n"]:
        # With a ridge, a score that is further from the leave-one-out truth has the larger LDS.
        assert law.kernel > law.exact
        assert mean[1] - mean[0] > 5 * np.hypot(se[0], se[1])
