"""The studies of shallow models on a few small cells, and their figures."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from paper_figures.drawing.style import style
from paper_figures.shallow import feature_learning as feature_figure
from paper_figures.shallow import linearisation as linearisation_figure
from paper_figures.shallow import margin_shortcut as margin_figure
from simulations.engine.runner import run
from simulations.engine.store import Store
from simulations.studies.shallow import feature_learning, linearisation, margin_shortcut

pytestmark = pytest.mark.slow

FIGURES = {linearisation: linearisation_figure, feature_learning: feature_figure, margin_shortcut: margin_figure}


SMALL = {
    linearisation: [params | {"n": 40, "width": 3} for params in linearisation.STUDY.quick],
    feature_learning: [
        params
        for params in feature_learning.STUDY.quick
        if params["size"] in (1.0, 4.0, 8.0, 16.0) and params["replicate"] < 2
    ],
    margin_shortcut: [
        params | {"n": 60, "width": 4} for params in margin_shortcut.STUDY.quick if params["ridge"] in (0.0, 2.0)
    ],
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The quick grids with small networks and few points, in place of the studies' own."""
    out = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        for module, figure in FIGURES.items():
            grid = [params for place, params in enumerate(SMALL[module]) if params not in SMALL[module][:place]]
            study = dataclasses.replace(module.STUDY, quick=grid, full=grid)
            assert run([study], out=out)[0].failures == []
            patch.setattr(module, "STUDY", study)
            patch.setattr(figure, "find_study", lambda _, study=study: study)
        yield out


def test_linearisation_rows(results):
    frame = Store(results).load(linearisation.STUDY)
    bound = frame[frame["part"] == "bound"]
    assert (bound["violations"] == 0).all()
    assert (bound["certified_after"] > 0.9).all()
    rungs = frame[(frame["part"] == "rung") & (frame["against"] == "exact")]
    assert set(linearisation_figure.RUNGS) <= set(rungs["rung"])
    prediction = frame[(frame["part"] == "prediction") & (frame["ridge"] == 25.0)]
    # A large ridge: the series has converged, and the prediction is the error.
    assert (prediction["trusted"] > 0.8).all()
    assert prediction["slope"].mean() == pytest.approx(1.0, abs=0.05)


def test_feature_learning_figure_shows_the_stored_means(results):
    frame = Store(results).load(feature_learning.STUDY)
    with style():
        drawing = feature_figure.draw(results)
    numbers = drawing.numbers.set_index(["curve", "size", "estimate", "measure"])
    for key, row in numbers.iterrows():
        curve, size, estimate, measure = key
        chosen = frame[(frame["curve"] == curve) & (frame["size"] == size) & (frame["estimate"] == estimate)]
        assert row["mean"] == pytest.approx(chosen[measure].mean(), rel=1e-12)
    assert "ridge 3 (weight decay 2)" in drawing.caption


def test_margin_figure_says_how_far_the_block_is_ahead(results):
    frame = Store(results).load(margin_shortcut.STUDY)
    with style():
        drawing = margin_figure.draw(results)
    rule = frame[(frame["truth"] == "datamodels") & (frame["factor"] == 1.0)]
    gap = rule[rule["output"] == "block"]["lds"].mean() - rule[rule["output"] == "margin"]["lds"].mean()
    assert f"ahead of the margin by {gap:.3f}" in drawing.caption
    leave = frame[frame["truth"] == "leave-one-out"]
    linear = leave[leave["rung"] == "linear output"].pivot_table("kendall", ["ridge", "replicate"], "output")
    np.testing.assert_array_equal(linear["block"], linear["margin"])  # the two part below it


def test_linearisation_figure_draws_what_is_there(results, tmp_path):
    with style():
        drawing = linearisation_figure.draw(results)
        paths = drawing.save("linearisation", tmp_path)
    assert all(path.stat().st_size > 0 for path in paths)
    assert "0 violations" in drawing.caption
    assert len(pd.read_csv(tmp_path / "linearisation.csv")) == len(drawing.numbers)
