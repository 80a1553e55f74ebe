"""The studies of shallow models and what their figures say."""

import numpy as np
import pandas as pd
import pytest

from paper_figures.drawing.style import style
from paper_figures.shallow import feature_learning as feature_figure
from paper_figures.shallow import linearisation as linearisation_figure
from paper_figures.shallow import margin_shortcut as margin_figure
from simulations.engine.store import Store
from simulations.studies.shallow import feature_learning, linearisation, margin_shortcut


def test_linearisation_rows(shipped):
    frame = Store(shipped).load(linearisation.STUDY)
    bound = frame[frame["part"] == "bound"]
    assert (bound["violations"] == 0).all()
    assert (bound["certified_after"] > 0.9).all()
    rungs = frame[(frame["part"] == "rung") & (frame["against"] == "exact")]
    assert set(linearisation_figure.RUNGS) <= set(rungs["rung"])


@pytest.mark.slow
def test_at_a_large_ridge_the_predicted_linearisation_error_is_the_error():
    params = next(params for params in linearisation.STUDY.full if params["ridge"] == 25.0)
    rows = pd.DataFrame(linearisation.run(params, np.random.default_rng(0)))
    prediction = rows[rows["part"] == "prediction"]
    assert (prediction["trusted"] > 0.8).all()
    assert prediction["slope"].mean() == pytest.approx(1.0, abs=0.05)


def test_feature_learning_figure_shows_the_stored_means(shipped):
    frame = Store(shipped).load(feature_learning.STUDY)
    with style():
        drawing = feature_figure.draw(shipped)
    numbers = drawing.numbers.set_index(["curve", "size", "estimate", "measure"])
    for key, row in numbers.iterrows():
        curve, size, estimate, measure = key
        chosen = frame[(frame["curve"] == curve) & (frame["size"] == size) & (frame["estimate"] == estimate)]
        assert row["mean"] == pytest.approx(chosen[measure].mean(), rel=1e-12)
    assert "ridge 3 (weight decay 2)" in drawing.caption


def test_margin_figure_says_how_far_the_block_is_ahead(shipped):
    frame = Store(shipped).load(margin_shortcut.STUDY)
    with style():
        drawing = margin_figure.draw(shipped)
    rule = frame[(frame["truth"] == "datamodels") & (frame["factor"] == 1.0)]
    gap = rule[rule["output"] == "block"]["lds"].mean() - rule[rule["output"] == "margin"]["lds"].mean()
    assert f"ahead of the margin by {gap:.3f}" in drawing.caption
    leave = frame[frame["truth"] == "leave-one-out"]
    linear = leave[leave["rung"] == "linear output"].pivot_table("kendall", ["ridge", "replicate"], "output")
    np.testing.assert_array_equal(linear["block"], linear["margin"])  # the two part below it


def test_linearisation_figure_draws_what_is_there(shipped, tmp_path):
    with style():
        drawing = linearisation_figure.draw(shipped)
        paths = drawing.save("linearisation", tmp_path)
    assert all(path.stat().st_size > 0 for path in paths)
    assert "0 violations" in drawing.caption
    assert len(pd.read_csv(tmp_path / "linearisation.csv")) == len(drawing.numbers)
