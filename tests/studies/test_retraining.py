"""The ladder in LDS: its rungs on two small networks, and its figure."""

import dataclasses

import pytest

from paper_figures.drawing.style import style
from paper_figures.retraining.lds_ladder import draw
from simulations.engine.runner import run
from simulations.engine.store import Store
from simulations.findings.retraining import FINDINGS
from simulations.studies.retraining.lds_ladder import RUNGS, STUDY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    few = [params for params in STUDY.quick if params["recipe"] != "minibatch SGD" and params["replicate"] < 2]
    (outcome,) = run([dataclasses.replace(STUDY, quick=few)], out=out, jobs=1)
    assert (outcome.computed, outcome.failures) == (4, [])
    return out


def test_every_rung_is_there_and_the_ladder_falls(results):
    rows = Store(results).load(STUDY)
    for _, ladder in rows[rows["rung"].isin(RUNGS)].groupby(["recipe", "replicate"]):
        assert tuple(ladder["rung"]) == RUNGS
    mean = rows.groupby("rung")["lds"].mean()
    assert mean["twin, block"] > mean["sum over points, block"] > mean["unit curvature"] > mean["no ridge"]
    scored = rows[rows["predicted"].notna()]
    assert (scored["predicted_low"] < scored["predicted_high"]).all()
    assert ((scored["predicted"] - scored["lds"]).abs() < 4 * scored["predicted_se"] + 4 * scored["subset_se"]).all()


def test_the_figure_shows_the_stored_numbers(results):
    with style():
        drawing = draw(results)
    rows = Store(results).load(STUDY)
    shown = drawing.numbers.set_index(["recipe", "rung", "measure"])["mean"]
    for (recipe, rung), part in rows[rows["rung"].isin(RUNGS)].groupby(["recipe", "rung"]):
        assert shown[recipe, rung, "measured"] == pytest.approx(part["lds"].mean())
    titles = [axis.get_title() for axis in drawing.figure.axes]
    assert titles == ["full batch, momentum, α = 0.5", "AdamW, α = 0.5"]
    assert "30 random subsets" in drawing.caption


def test_every_finding_has_a_number(results):
    rows = Store(results).load(STUDY)
    for finding in FINDINGS:
        assert [judged.verdict for judged in finding.judge(rows)] != [], finding.statement
