"""Statistics of an audit's alarms against the same ones from dense covariances and textbook formulas."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import kendalltau, multivariate_normal

from trak_theory.auditing.checking.alarms import REACH, Calibration, yardstick_of
from trak_theory.auditing.checking.score_draws import ScoreDraws
from trak_theory.numerics.spectrum import spectrum
from trak_theory.projection.kernel_law import KernelLaw

N, Q, P, K, RIDGE = 7, 3, 30, 4, 0.1


class Case:
    """Seven points and three queries, all drawn, and scores with a factor."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.features, self.queries = rng.standard_normal((N, P)) / 4, rng.standard_normal((Q, P)) / 4
        self.residual = rng.uniform(0.2, 1.0, N) * np.array([1, -1, 1, 1, -1, -1, 1])
        self.draws = self.drawn(K, RIDGE)
        self.scores = 5 * (self.mean(self.draws.law) + 0.3 * rng.standard_normal((N, Q)))
        self.found = yardstick_of(self.draws)(self.scores)

    def drawn(self, k, ridge):
        law = KernelLaw(spectrum(self.features, self.queries), k, 2, ridge)
        gram = self.queries @ self.queries.T
        return ScoreDraws(law, self.residual, gram, np.arange(N), np.arange(Q))

    def inverse(self, law):
        return np.linalg.inv(self.features.T @ self.features + law.implicit_ridge * np.eye(P))

    def mean(self, law):
        return -self.residual[:, None] * (self.features @ self.inverse(law) @ self.queries.T)

    def factors(self, law):
        """Covariances between points (n, n), with c/J, and between queries (q, q)."""
        square = self.inverse(law) @ self.inverse(law)
        among = np.outer(self.residual, self.residual) * (self.features @ square @ self.features.T)
        return law.noise * among, self.queries @ square @ self.queries.T

    def variance(self, law):
        between, among = self.factors(law)
        square = self.features @ self.inverse(law) @ self.inverse(law) @ self.queries.T
        return np.outer(np.diag(between), np.diag(among)) + law.noise * (self.residual[:, None] * square) ** 2

    def log_likelihood(self, law, scores):
        """Of T = s(mean + error), at the best s > 0; errors with the leading term of the covariance."""
        law_of_error = multivariate_normal(self.mean(law).ravel(), np.kron(*self.factors(law)))

        def cost(log_scale):
            return scores.size * log_scale - law_of_error.logpdf((scores / np.exp(log_scale)).ravel())

        return -minimize_scalar(cost, bounds=(-10, 10), method="bounded", options={"xatol": 1e-10}).fun


@pytest.fixture(scope="module")
def case():
    return Case()


def test_of_single_scores(case):
    law, scores, found = case.draws.law, case.scores, case.found
    mean, sd = case.mean(law), np.sqrt(case.variance(law))
    scale = np.linalg.lstsq(mean.reshape(-1, 1), scores.ravel())[0][0]
    z = (scores / scale - mean) / sd
    assert found["correlation with the mean"] == pytest.approx(
        np.dot(scores.ravel(), mean.ravel()) / np.linalg.norm(scores) / np.linalg.norm(mean)
    )
    assert found["spread of z"] == pytest.approx(np.log(np.sqrt(np.mean(z**2))))
    assert found["coverage of 95 % intervals"] == np.mean(np.abs(z) < 1.96) < np.mean(np.abs(z) < 2.96)
    assert found["tails"] == pytest.approx(np.log(np.mean(z**4) / np.mean(z**2) ** 2))
    assert found["worst query"] == pytest.approx(np.log(np.sqrt(max(np.mean(z[:, j] ** 2) for j in range(Q)))))
    assert found["worst point"] == pytest.approx(np.log(np.sqrt(max(np.mean(z[i] ** 2) for i in range(N)))))
    pairs = [(a, b) for a in range(N) for b in range(a)]
    drawn = {tuple(sorted(pair)) for pair in zip(*yardstick_of(case.draws).pairs, strict=True)}
    assert drawn == {tuple(sorted(pair)) for pair in pairs}
    expected = np.mean([kendalltau(mean[:, j], scores[:, j]).statistic for j in range(Q)])
    assert found["Kendall's τ with the mean"] == pytest.approx(expected, abs=0.02)  # pairs are not drawn equally often


def test_of_the_spectrum(case):
    energies = np.linalg.eigvalsh(case.scores.T @ case.scores)[::-1]
    assert case.found["effective rank"] == pytest.approx(np.log(energies.sum() ** 2 / np.sum(energies**2)))
    assert yardstick_of(case.draws).rank == 2 * K


def test_of_trends(case):
    law, scores = case.draws.law, case.scores
    mean = case.mean(law)
    typical = np.sqrt(mean**2 + case.variance(law))
    least = 1e-3 * np.sqrt(np.mean(typical**2))
    given = np.abs(scores) * np.sum(mean**2) / np.sum(scores * mean)
    size = np.log(given + least) - np.log(typical + least)
    lengths = {
        "residuals": np.tile(np.log(np.abs(case.residual))[:, None], Q),
        "lengths of points": np.tile(np.log(np.linalg.norm(case.features, axis=1))[:, None], Q),
        "lengths of queries": np.tile(np.log(np.linalg.norm(case.queries, axis=1)), (N, 1)),
    }
    for name, length in lengths.items():
        slope = np.polyfit(length.ravel(), size.ravel(), 1)[0]
        assert case.found[f"trend with {name}"] == pytest.approx(slope), name


def test_of_errors_together(case):
    law = case.draws.law
    mean, (between, among) = case.mean(law), case.factors(law)
    error = case.scores * np.sum(mean**2) / np.sum(case.scores * mean) - mean
    inverse = np.linalg.inv(np.kron(between, among))
    assert case.found["joint spread"] == pytest.approx(np.log(error.ravel() @ inverse @ error.ravel() / (N * Q)) / 2)
    values, vectors = np.linalg.eigh(between)
    along = np.einsum("ia,iq,qr,ja,jr->a", vectors, error, np.linalg.inv(among), vectors, error) / values / Q
    assert case.found["worst direction"] == pytest.approx(np.log(along.max()) / 2)
    assert case.found["weak directions"] == pytest.approx(np.log(1e-6))


def test_of_weak_directions(case):
    """The last point's residual is so small that its direction is weak for every query, and taken with the others."""
    residual = case.residual * np.where(np.arange(N) == N - 1, 1e-4, 1.0)
    draws = replace(case.draws, residual=residual)
    yardstick = yardstick_of(draws)
    strong = yardstick.whitening.strong
    assert 0 < strong.sum() < N * Q
    mean = case.mean(draws.law) * (residual / case.residual)[:, None]
    error = case.scores * np.sum(mean**2) / np.sum(case.scores * mean) - mean
    energy = yardstick.whitening.rotated(error) ** 2
    assert energy.sum() == pytest.approx(np.sum(error**2))
    share = energy[~strong].sum() / energy.sum()
    assert yardstick(case.scores)["weak directions"] == pytest.approx(np.log(1e-6 + share))


def test_a_rival_without_noise_is_none(case):
    """At μ = 0 twice k may be the rank, where a projection loses nothing, or beyond it, where it has no inverse."""
    assert case.draws.law.space.rank == N
    for k, named in ((2, True), (3, True), (4, False)):
        assert ("fit of twice k" in yardstick_of(case.drawn(k, 0.0))(case.scores)) == named
    even = ScoreDraws(
        KernelLaw(spectrum(case.features[:6], case.queries), 3),
        case.residual[:6],
        case.draws.gram,
        np.arange(6),
        np.arange(Q),
    )
    assert "fit of twice k" not in yardstick_of(even)(case.scores[:6])


def test_of_whitened_scores(case):
    law = case.draws.law
    mean, (between, among) = case.mean(law), case.factors(law)
    whiten = np.linalg.inv(np.linalg.cholesky(between))
    unit = np.sqrt(np.diag(among))
    given, expected = whiten @ case.scores / unit, whiten @ mean / unit
    correlation = np.sum(given * expected) / np.linalg.norm(given) / np.linalg.norm(expected)
    assert case.found["correlation in whitened coordinates"] == pytest.approx(correlation)
    tails = case.found["tails in whitened coordinates"]
    assert np.log(1 / given.size) < tails < 0  # Σe⁴ lies between (Σe²)²/N and (Σe²)²


def test_of_likelihoods(case):
    law = case.draws.law
    own = case.log_likelihood(law, case.scores)
    rivals = {
        "fit of half of k": (K // 2, RIDGE),
        "fit of twice k": (2 * K, RIDGE),
        "fit of a third of the ridge": (K, RIDGE / 3),
        "fit of three times the ridge": (K, 3 * RIDGE),
    }
    for name, setting in rivals.items():
        expected = case.log_likelihood(case.drawn(*setting).law, case.scores) - own
        assert case.found[name] == pytest.approx(expected, abs=1e-5), name


def test_of_exchanged_queries(case):
    """Gains of a query's scores under the law of another one, each with its own variance."""
    law = case.draws.law
    mean, (between, among) = case.mean(law), case.factors(law)
    scale = np.sum(case.scores * mean) / np.sum(mean**2)

    def fit(query, other):
        return multivariate_normal(mean[:, other], between * among[other, other]).logpdf(case.scores[:, query] / scale)

    gains = [fit(query, other) - fit(query, query) for query in range(Q) for other in range(Q) if other != query]
    assert case.found["exchanged queries"] == pytest.approx(max(gains))


def test_of_a_check(case):
    """Means and standard deviations are those of the simulated scores; an excess of 1 is their 99.5 % distance."""
    calibration = Calibration(case.draws, np.random.default_rng(1))
    check = calibration.check(case.scores)
    for row in check.statistics:
        simulated = [each[row.name] for each in calibration.simulated]
        assert row.value == case.found[row.name]
        assert row.expected == pytest.approx(np.mean(simulated))
        assert row.sd == pytest.approx(np.std(simulated, ddof=1))
        everything = np.array([row.value, *simulated])
        centre, far = np.median(everything), np.quantile(everything, [1 - REACH, REACH])
        side = far[1] - centre if row.value > centre else centre - far[0]
        assert row.excess == (pytest.approx(abs(row.value - centre) / side) if row.value != centre else 0.0)
    assert check.p_value * 300 == pytest.approx(round(check.p_value * 300))
