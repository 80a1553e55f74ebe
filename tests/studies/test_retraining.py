"""The ladder in LDS: its rungs on small networks, and its figure."""

import pytest

from paper_figures.drawing.style import style
from paper_figures.retraining.lds_ladder import draw
from simulations.engine.store import Store
from simulations.findings.retraining import FINDINGS
from simulations.studies.retraining.lds_ladder import RUNGS, STUDY


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
    assert titles == ["full batch, momentum, α = 0.5", "AdamW, α = 0.5"]
    assert "30 random subsets" in drawing.caption


def test_every_finding_has_a_number(shipped):
    rows = Store(shipped).load(STUDY)
    for finding in (each for each in FINDINGS if each.study == STUDY.name):
        assert [judged.verdict for judged in finding.judge(rows)] != [], finding.statement
