"""The study of orders and its figure: slopes where the theory gives them, plotted numbers are the stored ones."""

import csv
import dataclasses

import numpy as np
import pytest

from paper_figures.drawing.style import style
from paper_figures.ladder.expansion_orders import draw
from simulations.engine.runner import run
from simulations.engine.store import Store
from simulations.studies.ladder.expansion_orders import COPIES, STUDY
from trak_theory.claims.expansions import SERIES


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two data sets of every regime, without the Poisson loss."""
    out = tmp_path_factory.mktemp("results")
    few = [params for params in STUDY.quick if params["replicate"] < 2 and params["loss"] != "poisson"]
    (outcome,) = run([dataclasses.replace(STUDY, quick=few)], out=out)
    assert (outcome.computed, outcome.failures) == (8, [])
    return out


@pytest.fixture(scope="module")
def frame(results):
    return Store(results).load(STUDY)


def test_copies_have_the_orders_of_the_theory(frame):
    chosen = frame[frame["regime"] == "copies"]
    assert sorted(set(chosen["size"])) == list(COPIES)
    for name, (_, order, _) in SERIES.items():
        slopes = chosen.loc[chosen["series"] == name, "slope"]
        assert len(slopes) == 2 * len(COPIES)
        np.testing.assert_allclose(slopes, order, atol=0.1)


def test_leverage_is_the_order_of_least_squares(frame):
    squared = frame[(frame["regime"] == "leverage") & (frame["loss"] == "squared")]
    assert set(squared["series"]) == {"IJ-1", "IJ-2", "IJ-3"}
    for order in (1, 2, 3):
        np.testing.assert_allclose(squared.loc[squared["series"] == f"IJ-{order}", "slope"], order, atol=1e-8)


def test_at_fixed_aspect_the_jackknife_does_not_improve_as_newton_does(frame):
    chosen = frame[frame["regime"] == "proportional"]
    mean = chosen[chosen["size"] == chosen["size"].max()].groupby("series")["relative_error"].mean()
    assert mean["IJ-1"] > 5 * mean["newton"] > 5 * mean["newton with second-order term"]


def test_the_figure_shows_the_stored_numbers(results, frame, tmp_path):
    with style():
        drawing = draw(results)
        paths = drawing.save("expansion_orders", tmp_path)
    assert all(path.stat().st_size > 0 for path in paths)
    with paths[2].open(newline="") as file:
        plotted = list(csv.DictReader(file))
    assert len(plotted) == len(frame) / 2
    for row in plotted:
        keys = ("regime", "loss", "series")
        chosen = frame[(frame[list(keys)] == [row[key] for key in keys]).all(axis=1)]
        stored = chosen.loc[chosen["step"] == int(row["step"]), row["measure"]]
        assert float(row["mean"]) == pytest.approx(stored.mean(), rel=1e-12)
        assert float(row["se"]) == pytest.approx(stored.std(ddof=1) / np.sqrt(2), rel=1e-12)
        assert float(row["slope"]) == pytest.approx(chosen["slope"].mean(), rel=1e-12)
    assert "2 data sets" in drawing.caption
