"""Predicted LDS against many retrainings: least squares, and a twin that sees only some of its features."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from support.retrained_least_squares import Population, spearman_columns

from trak_theory import Linearization, influence
from trak_theory.retraining import lds, twin, twin_reference
from trak_theory.retraining.lds_prediction import Retrained

SEEN, QUERIES, FEW, REPEATS = 8, 20, 10, 60


@cache
def setting():
    """A model of 14 features, its twin on 8 of them, three scores, and their true LDS over 4,000 subsets."""
    population = Population(p=14, correlation=0.4, ridge=4.0)
    queries, rows = population.queries[:QUERIES], population.rows
    hessian = rows.T @ rows + 4.0 * np.eye(14)
    residual = rows @ np.linalg.solve(hessian, rows.T @ population.targets) - population.targets
    lin = Linearization(rows[:, :SEEN], residual, np.ones(60), 4.0, queries[:, :SEEN])
    model = twin(lin, 4.0, loss="squared", targets=population.targets)
    scores = {
        "influence of the twin": influence(lin),
        "influence of the model": population.scores[:, :QUERIES],
        "gradient dot product": -residual[:, None] * (lin.features @ lin.queries.T),
    }
    subsets = population.subsets(4000)
    outputs = population.retrain(subsets) @ queries.T
    truth = {name: spearman_columns(values[subsets].sum(1), outputs).mean() for name, values in scores.items()}
    reference = twin_reference(model, fraction=0.5, simulated=300, rng=np.random.default_rng(1))
    return population, queries, model, scores, truth, reference


@cache
def predictions(name):
    population, queries, model, scores, _, reference = setting()
    population.rng = np.random.default_rng(2)
    found = []
    for _ in range(REPEATS):
        subsets = population.subsets(FEW)
        members = np.zeros((FEW, 60))
        np.put_along_axis(members, subsets, 1.0, axis=1)
        outputs = population.retrain(subsets) @ queries.T
        known = replace(reference, retrained=Retrained(members, model.refit(subsets), outputs))
        found.append((known.predict(scores[name]), lds(scores[name], subsets, outputs)))
    return found


NAMES = ("influence of the twin", "influence of the model", "gradient dot product")


@pytest.mark.parametrize("name", NAMES)
def test_ten_retrainings_give_the_level(name):
    """Mean of 60 predictions within four standard errors of the truth, and .01 for what the jackknife leaves."""
    values = np.array([one.mean - one.estimate.bias for one, _ in predictions(name)])
    shared = setting()[5].against_twin(setting()[3][name]).estimate.subset_se  # by all: they read one simulation
    error = np.hypot(values.std(ddof=1) / np.sqrt(REPEATS), shared)
    assert abs(values.mean() - setting()[4][name]) < 4 * error + 0.01


@pytest.mark.parametrize("name", NAMES)
def test_intervals_cover(name):
    truth = setting()[4][name]
    limits = np.array([one.interval(over="subsets") for one, _ in predictions(name)])
    covered = np.mean((limits[:, 0] <= truth) & (truth <= limits[:, 1]))
    assert covered >= 0.93 - 2.5 * np.sqrt(0.93 * 0.07 / REPEATS)


def test_the_product_rule_is_wrong_for_a_score_of_what_the_twin_does_not_see():
    """Control: the model's own influence is worth more than its agreement with the twin times the twin's fidelity."""
    product = np.mean([one.product for one, _ in predictions("influence of the model")])
    assert setting()[4]["influence of the model"] - product > 0.05


def test_scores_are_ranked_without_retraining():
    _, _, _, scores, truth, reference = setting()
    against = [reference.against_twin(scores[name]).mean for name in NAMES]
    assert against[0] > against[2]
    assert truth[NAMES[0]] > truth[NAMES[2]]
    with pytest.raises(ValueError, match="the level of an LDS needs retrained subsets"):
        reference.predict(scores[NAMES[0]])


def test_a_perfect_twin_makes_the_direct_score_exact():
    """Where the twin is the model, the prediction is its LDS on the simulated subsets, whatever the few say."""
    population, queries, _, scores, _, _ = setting()
    rows = population.rows
    coef = np.linalg.solve(rows.T @ rows + 4.0 * np.eye(14), rows.T @ population.targets)
    residual = rows @ coef - population.targets
    model = twin(
        Linearization(rows, residual, np.ones(60), 4.0, queries), 4.0, loss="squared", targets=population.targets
    )
    subsets = population.subsets(FEW)
    retrained = (subsets, population.retrain(subsets) @ queries.T)
    reference = twin_reference(model, fraction=0.5, retrained=retrained, simulated=100, rng=np.random.default_rng(0))
    assert reference.fidelity.mean == pytest.approx(1.0)
    for values in scores.values():
        found = reference.predict(values)
        assert found.mean == pytest.approx(found.against_twin.mean, abs=1e-9)
        assert found.estimate.subset_se == pytest.approx(found.against_twin.estimate.subset_se, abs=1e-9)


def test_outputs_that_do_not_belong_are_refused():
    population, _, model, scores, _, reference = setting()
    subsets = population.subsets(FEW)
    with pytest.raises(ValueError, match=r"shape \(10, 3\) for 10 subsets and 20 queries; at least 5"):
        twin_reference(
            model, fraction=0.5, retrained=(subsets, np.ones((10, 3))), simulated=5, rng=np.random.default_rng(0)
        )
    with pytest.raises(ValueError, match=r"fraction must lie in \(0, 1\), got 50"):
        twin_reference(model, fraction=50, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"scores have shape \(59, 20\), the twin has points and queries \(60, 20\)"):
        reference.against_twin(scores[NAMES[0]][1:])
