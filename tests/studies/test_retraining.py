"""The ladder in LDS and answers to removals: on small networks, with their figures."""

from dataclasses import replace

import numpy as np
import pytest

from paper_figures.drawing.style import style
from paper_figures.retraining.best_answer import draw as draw_best
from paper_figures.retraining.lds_ladder import draw
from paper_figures.retraining.share_removed import draw as draw_removals
from simulations.engine.runner import run
from simulations.engine.store import Store
from simulations.findings.retraining import FINDINGS
from simulations.studies.practice.ridge_rule import RECIPES, coordinates
from simulations.studies.retraining import best_answer, share_removed
from simulations.studies.retraining.lds_ladder import RUNGS, STUDY
from simulations.workloads.digits_mlp import digits_network, random_subsets
from trak_theory.retraining import block_twin
from trak_theory.retraining.ridge_rule import training_ridge
from trak_theory.trajectory import retrain_without


def test_every_rung_is_there_and_the_ladder_falls(shipped):
    rows = Store(shipped).load(STUDY)
    for _, ladder in rows[rows["rung"].isin(RUNGS)].groupby(["recipe", "replicate"]):
        assert tuple(ladder["rung"]) == RUNGS
    mean = rows.groupby("rung")["lds"].mean()
    assert mean["twin, block"] > mean["sum over points, block"] > mean["unit curvature"] > mean["no ridge"]
    scored = rows[rows["predicted"].notna()]
    assert (scored["predicted_low"] < scored["predicted_high"]).all()
    assert ((scored["predicted"] - scored["lds"]).abs() < 4 * scored["predicted_se"] + 4 * scored["subset_se"]).all()


def test_the_figure_shows_the_stored_numbers(shipped):
    with style():
        drawing = draw(shipped)
    rows = Store(shipped).load(STUDY)
    shown = drawing.numbers.set_index(["recipe", "rung", "measure"])["mean"]
    for (recipe, rung), part in rows[rows["rung"].isin(RUNGS)].groupby(["recipe", "rung"]):
        assert shown[recipe, rung, "measured"] == pytest.approx(part["lds"].mean())
    titles = [axis.get_title() for axis in drawing.figure.axes]
    assert titles == ["full batch, momentum,\nα = 0.5", "minibatch SGD,\nα = 0.5", "AdamW,\nα = 0.5"]
    assert "30 random subsets" in drawing.caption


def test_every_finding_has_a_number(shipped):
    rows = Store(shipped).load(STUDY)
    for finding in (each for each in FINDINGS if each.study == STUDY.name):
        assert [judged.verdict for judged in finding.judge(rows)] != [], finding.statement


@pytest.fixture(scope="module")
def removals(tmp_path_factory):
    """The study of removals in two small cells, an Adam run and one without Adam."""
    out = tmp_path_factory.mktemp("removals")
    tiny = {"activation": "tanh", "n": 40, "queries": 3, "sets": 8, "rank": 60}
    cells = [{**tiny, "recipe": recipe, "replicate": 0} for recipe in ("AdamW 3e-3", "full batch, momentum")]
    study = replace(share_removed.STUDY, quick=cells, full=cells)
    (outcome,) = run([study], out=out, jobs=1)
    assert (outcome.computed, outcome.failures) == (2, [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(share_removed, "STUDY", study)
        yield out, Store(out).load(study)


def test_every_answer_is_there_at_every_share(removals):
    _, rows = removals
    assert sorted(set(rows["share"])) == pytest.approx([1 / 40, 0.1, 0.25, 0.5])  # 1 % is one sample
    for _, part in rows.groupby(["recipe", "removed"]):
        assert set(part["answer"]) == set(share_removed.ANSWERS)
    mean = rows[rows["recipe"] == "AdamW 3e-3"].groupby(["removed", "answer"])["fidelity"].mean()
    assert mean[4, "two-step"] > mean[4, "leave-one-out Newton"]


def test_for_one_sample_two_step_and_twin_are_two_step(removals):
    asked = share_removed.recorded(
        {"activation": "tanh", "recipe": "AdamW 3e-3", "n": 40, "queries": 3, "rank": 60}, np.random.default_rng(0)
    )
    one, half = np.arange(6)[:, None], np.arange(40).reshape(2, 20)
    single, many = dict(asked.answers(one)), dict(asked.answers(half))
    scale = np.abs(single["two-step"]).max()
    assert single["two-step and twin"] == pytest.approx(single["two-step"], abs=1e-6 * scale)
    assert np.abs(single["twin"] - single["two-step"]).max() > 0.01 * scale
    assert np.abs(many["two-step and twin"] - many["two-step"]).max() > 0.01 * np.abs(many["two-step"]).max()
    assert single["weights 1 − s and s"] == pytest.approx((39 * single["two-step"] + single["twin"]) / 40)
    truth = retrain_without(asked.trained, one, removal=share_removed.REMOVAL).influence(asked.query)
    for name in ("two-step", "twin", "leave-one-out Newton", "restored influence"):  # the presence sign
        assert np.corrcoef(single[name].ravel(), truth.ravel())[0, 1] > 0.5, name


def test_a_sum_equal_to_the_twins_own_gives_the_twin():
    own, refitted = np.array([[1.0, 2.0]]), np.array([[1.5, 1.0]])
    assert share_removed.mixture(own, refitted, own).tolist() == refitted.tolist()
    assert share_removed.mixture(own, refitted, refitted).tolist() == own.tolist()


def test_the_figure_of_removals_shows_the_stored_numbers(removals):
    out, rows = removals
    with style():
        drawing = draw_removals(out)
    shown = drawing.numbers.set_index(["recipe", "share", "answer"])["mean"]
    for key, part in rows.groupby(["recipe", "share", "answer"]):
        assert shown[key] == pytest.approx(part["fidelity"].mean())
    assert [axis.get_title() for axis in drawing.figure.axes] == ["tanh,\nAdamW 3e-3", "tanh,\nfull batch, momentum"]


@pytest.fixture(scope="module")
def displaced():
    """A small network and the displacements of its parameters by its twin, in all coordinates."""
    rng = np.random.default_rng(0)
    model = digits_network(RECIPES["AdamW"][0], n=200, hidden=4, queries=5, rng=rng)
    return best_answer.Displaced(model, 600, rng), random_subsets(200, 100, 6, rng)


def test_the_linear_answer_is_the_twins_refit(displaced):
    answers, subsets = displaced
    model, (scales, recipe) = answers.model, coordinates(answers.model)
    ridge = 3 * training_ridge(recipe, 200)
    queries = model.query_gradients * scales
    exact = block_twin(model.jacobian * scales, model.probabilities, model.labels, queries, ridge).refit(subsets)
    linear, _ = answers.answers(subsets, 3.0)
    assert linear == pytest.approx(exact, abs=0.01 * np.abs(exact).max())
    other, _ = answers.answers(subsets, 1.0)
    assert np.abs(other - exact).max() > 0.1 * np.abs(exact).max()


def test_both_answers_agree_to_first_order(displaced):
    answers, subsets = displaced
    now = best_answer.outputs(answers.model, answers.model.theta[None])
    gaps = []
    for times in (1e3, 1e4):
        linear, network = answers.answers(subsets, times)
        gaps.append(np.abs(network - now - linear).max() / np.abs(linear).max())
    assert gaps[1] < 0.02
    assert gaps[1] < 0.3 * gaps[0]  # the rest is of second order


def test_weights_come_from_the_first_subsets_alone(displaced, monkeypatch):
    answers, subsets = displaced
    model, rng = answers.model, np.random.default_rng(1)
    retrained = model.theta + 0.1 * rng.standard_normal((6, model.network.p))
    monkeypatch.setattr(best_answer, "RIDGES", (1.0,))
    truth = best_answer.outputs(model, retrained)
    found = []
    for count in (5, 6):
        setting = best_answer.Setting(model, subsets[:count], retrained[:count], 600, np.random.default_rng(2))
        found.append(dict(setting.stacks(truth[:5], np.random.default_rng(3))))
    assert set(found[0]) == {best_answer.STACKED, best_answer.STARTED}  # the mean network needs 20
    for answer, predicted in found[0].items():
        assert found[1][answer][:5] == pytest.approx(predicted, abs=1e-4 * predicted.std())


def test_the_best_answers_stand_in_their_order(shipped):
    rows = Store(shipped).load(best_answer.STUDY)
    for _, part in rows.groupby(["recipe", "replicate"]):
        assert set(best_answer.ANSWERS) <= set(part["answer"])
    mean = rows.groupby(["answer", "m"])["lds"].mean()
    assert mean[best_answer.STARTED, 20] > mean[best_answer.LINEAR, 0] > mean[best_answer.SUM, 0]


def test_the_figure_of_best_answers_shows_the_stored_numbers(shipped):
    with style():
        drawing = draw_best(shipped)
    rows = Store(shipped).load(best_answer.STUDY)
    shown = drawing.numbers.set_index(["recipe", "answer", "m"])["mean"]
    for key, part in rows.groupby(["recipe", "answer", "m"]):
        assert shown[key] == pytest.approx(part["lds"].mean())
    assert [axis.get_title() for axis in drawing.figure.axes] == list(dict.fromkeys(rows["recipe"]))


def test_modules_are_retrained_without_the_samples_that_are_removed():
    torch = pytest.importorskip("torch")
    pytest.importorskip("mlxtend")
    from simulations.workloads.retrained.modules import Recipe, cnn

    model = cnn(20, 3, Recipe(batch=5, steps=6, rate=1e-3), np.random.default_rng(0))
    batches = model.recipe.batches(20, np.random.default_rng(1))
    kept = np.ones((2, 20), bool)
    kept[1, batches[0]] = False
    whole, less = model.outputs(batches, kept)
    module, _ = model.trained(batches)
    with torch.no_grad():
        expected = model.output(module(model.queries[0]), model.queries[1])
    np.testing.assert_allclose(whole, expected, rtol=1e-12)
    others, _ = model.trained(batches, kept[1])
    (alone,) = model.outputs(batches[[not set(batch) <= set(batches[0]) for batch in batches]], kept[1:])
    np.testing.assert_allclose(less, alone, rtol=1e-6)  # a batch of which nothing is left makes no step
    assert np.abs(less - whole).max() > 1e-3
    assert sum(value.numel() for value in others.parameters()) == model.p > 1e5
