"""Figures without a study of their own name, and those with residuals: the numbers are those of the rows."""

import numpy as np
import pytest

from paper_figures.drawing.style import style
from paper_figures.ladder import schematic
from paper_figures.laws import rank_grid
from paper_figures.trajectory import coverage_on_transformers
from simulations.engine.reading import reading
from simulations.engine.store import Store
from simulations.engine.study import find_study
from simulations.studies.trajectory.proxy import judgements


def drawn(figure, results, study):
    """The drawing at quick size, and the rows behind it."""
    with style(), reading([0], whole="quick"):
        return figure.draw(results), Store(results).load(find_study(study))


def test_steps_of_the_schematic_add_up_to_the_last_rung(both_sizes):
    drawing, rows = drawn(schematic, both_sizes, "ladder")
    numbers = drawing.numbers.set_index("rung")
    rows = rows[(rows["data"] == schematic.DATA) & (rows["against"] == "exact")]
    for rung in ("newton", "unit curvature", "as released"):
        assert numbers.loc[rung, "mean"] == pytest.approx(rows.loc[rows["rung"] == rung, "kendall"].mean())
    assert 1.0 + numbers["step"].sum() == pytest.approx(numbers.loc["as released", "mean"])
    texts = {text.get_text() for axis in drawing.figure.axes for text in axis.texts}
    assert set(schematic.FORMULAS.values()) <= texts
    assert f"{numbers.loc['unit curvature', 'step']:+.3f}".replace("-", "−") in texts


def test_residuals_of_the_grid_are_simulation_less_law(both_sizes):
    drawing, rows = drawn(rank_grid, both_sizes, "rank_grid")
    numbers = drawing.numbers
    np.testing.assert_allclose(numbers["gap"], numbers["mean"] - numbers["law"])
    setting = numbers.iloc[0]
    own = rows[(rows["k"] == setting["k"]) & (rows["n"] == setting["n"]) & (rows["part"] == "data")]
    assert setting["mean"] == pytest.approx(own["kendall"].mean())
    assert setting["se"] == pytest.approx(own["kendall"].sem())
    assert f"{numbers['holds'].sum()} of {len(numbers)} lie within" in drawing.caption


def test_coverage_is_that_of_the_transformers_alone(both_sizes):
    drawing, rows = drawn(coverage_on_transformers, both_sizes, "proxy")
    runs = judgements(rows)
    runs = runs[runs["family"] == "gpt2"]
    shown = drawing.numbers.set_index("measure")["mean"]
    assert set(drawing.numbers["family"]) == {"gpt2"}
    for measure in ("coverage", "calibrated_coverage", "relative_error"):
        assert shown[measure] == pytest.approx(runs[measure].mean())
    assert "Rows of GPT-2 from scratch and Llama are part of the full size alone." in drawing.caption
