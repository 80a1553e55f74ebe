"""The ladder in LDS and answers to removals: on small networks, with their figures."""

from dataclasses import replace

import numpy as np
import pytest

from paper_figures.drawing.style import style
from paper_figures.retraining.lds_ladder import draw
from paper_figures.retraining.share_removed import draw as draw_removals
from simulations.engine.runner import run
from simulations.engine.store import Store
from simulations.findings.retraining import FINDINGS
from simulations.studies.retraining import share_removed
from simulations.studies.retraining.lds_ladder import RUNGS, STUDY
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
    assert titles == ["full batch, momentum, α = 0.5", "minibatch SGD, α = 0.5", "AdamW, α = 0.5"]
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
    assert [axis.get_title() for axis in drawing.figure.axes] == ["tanh, AdamW 3e-3", "tanh, full batch, momentum"]
