"""Intervals and ceilings of a measured LDS, where the truth is known: least squares on random subsets."""

import numpy as np
import pytest
from support.retrained_least_squares import Population, spearman_columns

from trak_theory.laws.lds_law import lds_law
from trak_theory.retraining import compare, lds
from trak_theory.retraining.noise import spearman_of

SETTINGS = {
    "queries of all directions": {"p": 10},
    "correlated queries": {"p": 10, "correlation": 0.8},
    "correlated queries, blurred scores": {"p": 30, "correlation": 0.8, "blur": 1.0},
    "nearly additive": {"p": 3},
}
WANTED = 0.93


def coverage(population, count, queries, repeats, *, centred=True):
    """Shares of `repeats` in which the 95 % intervals hold the mean over all queries, and over those drawn."""
    whole = population.truth.mean()
    hits = []
    for _ in range(repeats):
        scores, subsets, outputs, chosen = population.draw(count, queries)
        truth = population.truth[chosen]
        found = lds(scores, subsets, outputs)
        if not centred:
            object.__setattr__(found.estimate, "bias", 0.0)
        over_all, these = found.interval(), found.interval(over="subsets")
        target = whole if queries > 1 else truth[0]
        hits.append([over_all[0] <= target <= over_all[1], these[0] <= truth.mean() <= these[1]])
    return np.mean(hits, axis=0)


def allowance(repeats):
    """Two and a half standard errors of a coverage of .93 over `repeats`."""
    return 2.5 * np.sqrt(WANTED * (1 - WANTED) / repeats)


@pytest.mark.parametrize(("count", "queries"), [(20, 1), (20, 20), (60, 5)])
def test_intervals_cover(count, queries):
    population = Population(p=10, correlation=0.5)
    assert np.all(coverage(population, count, queries, 200) >= WANTED - allowance(200))


@pytest.mark.slow
@pytest.mark.parametrize("queries", [1, 2, 5, 30, 100])
@pytest.mark.parametrize("count", [20, 50, 200])
@pytest.mark.parametrize("setting", SETTINGS)
def test_intervals_cover_from_20_to_200_subsets_and_1_to_100_queries(setting, count, queries):
    repeats = 500 if count < 200 else 200
    population = Population(**SETTINGS[setting], reference=10_000, seed=1)
    assert np.all(coverage(population, count, queries, repeats) >= WANTED - allowance(repeats))


def test_an_interval_around_the_plain_mean_does_not_cover():
    """Control: the bias of a sample Spearman correlation does not average out over queries."""
    assert coverage(Population(p=10), 20, 40, 100, centred=False)[1] < 0.9


def test_an_error_over_queries_alone_does_not_cover():
    """Control: with correlated queries a standard error over queries, as the field takes it, is far too small."""
    hits, population = [], Population(p=10, correlation=0.8)
    for _ in range(100):
        scores, subsets, outputs, _ = population.draw(40, 50)
        found = lds(scores, subsets, outputs)
        half = 2.01 * found.per_query.std(ddof=1) / np.sqrt(50)
        hits.append(abs(found.mean - found.estimate.bias - population.truth.mean()) <= half)
    assert np.mean(hits) < 0.6


def test_paired_differences_cover():
    """Two scores, the second a blurred copy: 200 comparisons at 30 subsets and 10 queries."""
    population = Population(p=10, correlation=0.5)
    rng = np.random.default_rng(3)
    worse = population.scores + population.scores.std() * rng.standard_normal(population.scores.shape)
    better = population.scores
    subsets = population.subsets(4000)
    outputs = population.retrain(subsets) @ population.queries.T
    truth = population.truth - spearman_columns(worse[subsets].sum(1), outputs)
    hits, shorter = [], []
    for _ in range(200):
        chosen = population.rng.choice(200, 10)
        subsets = population.subsets(30)
        outputs = population.retrain(subsets) @ population.queries[chosen].T
        found = compare(better[:, chosen], worse[:, chosen], subsets, outputs)
        low, high = found.interval(over="subsets")
        hits.append(low <= truth[chosen].mean() <= high)
        single = lds(worse[:, chosen], subsets, outputs).estimate.subset_se
        shorter.append(found.estimate.subset_se / single)
    assert np.mean(hits) >= WANTED - allowance(200)
    assert np.mean(shorter) < 1.0


@pytest.mark.parametrize(("replicates", "averaged"), [(1, False), (2, False), (4, False), (4, True)])
def test_noise_ceiling_and_corrected_score_where_both_are_known(replicates, averaged):
    """Normal noise of twice the signal's variance on 60 subsets: mean over 50 measurements within 4 standard errors.

    .01 is for what a curved function of noisy moments keeps after the jackknife.
    """
    population = Population(p=10)
    spread = _outputs(population, population.subsets(2000)).std(0)
    found = []
    for _ in range(50):
        subsets, chosen = population.subsets(60), population.rng.choice(200, 12)
        noise = np.sqrt(2) * spread[chosen] * population.rng.standard_normal((replicates + 1, 60, 12))
        trainings = _outputs(population, subsets)[:, chosen] + noise
        outputs = trainings[1:].mean(0) if averaged else trainings[0]
        measured = lds(population.scores[:, chosen], subsets, outputs, replicates=trainings[1:])
        ceiling, corrected = measured.noise_ceiling, measured.corrected
        found.append([ceiling.value - ceiling.bias, corrected.value - corrected.bias])
    reliability = 1 / (1 + 2 / (replicates if averaged else 1))
    mean, se = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / np.sqrt(50)
    expected = np.array([spearman_of(np.sqrt(reliability)), population.truth.mean()])
    assert np.all(np.abs(mean - expected) < 4 * se + np.array([0.01, 0.03])), (mean, se, expected)


def _outputs(population, subsets):
    return population.retrain(subsets) @ population.queries.T


def test_additive_ceiling_is_that_of_the_law():
    """Least squares, ridge λ on all and λ/2 on halves: √R² of outputs on membership, six data sets of 60 points."""
    law = spearman_of(lds_law(n=60, p=20, k=10, ridge=6.0, signal=1.0, noise=1.0).ceiling)
    found = []
    for seed in range(6):
        population = Population(p=20, ridge=6.0, seed=seed)
        scores, subsets, outputs = population.draw(300, 8)[:3]
        ceiling = lds(scores, subsets, outputs).additive_ceiling
        found.append(ceiling.value - ceiling.bias)
    mean, se = np.mean(found), np.std(found, ddof=1) / np.sqrt(6)
    assert abs(mean - law) < 4 * se + 0.02, (mean, se, law)
    assert lds(scores, subsets[:70], outputs[:70]).additive_ceiling is None
