"""The studies of the laws of one fitted model: their claims on the quick grid, and their figures."""

import pytest

from paper_figures.drawing.style import style
from simulations.engine.runner import run
from simulations.engine.store import Store
from simulations.engine.study import find_study

NAMES = ("projection_law", "plan", "audit_digits", "ridge_rule")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    for name in NAMES:
        (outcome,) = run([find_study(name)], out=out, jobs=1)
        assert not outcome.failures, outcome.failures
    return out


def frame(results, name):
    return Store(results).load(find_study(name))


@pytest.mark.slow
def test_projection_law(results):
    cells = frame(results, "projection_law").drop_duplicates(["features", "k_over_n", "ridge_share"])
    assert (cells["spread_of_z"].sub(1).abs() < 0.03 + 4 * cells["spread_of_z_se"]).all()
    assert (cells["slope"].sub(1).abs() < 0.01 + 4 * cells["slope_se"]).all()
    assert cells["coverage"].between(0.93, 0.97).all()


@pytest.mark.slow
def test_plan(results):
    rows = frame(results, "plan")
    planned = rows[rows["setting"] == "best ridge"]
    assert ((planned["predicted"] - planned["simulated"]).abs() < 0.02 + 4 * planned["simulated_se"]).all()


@pytest.mark.slow
def test_audit_digits(results):
    rows = frame(results, "audit_digits")
    for measure, allowance in (("Kendall", 0.02), ("Pearson", 0.03), ("coverage", 0.015), ("top overlap", 0.03)):
        chosen = rows[rows["measure"] == measure]
        gap = (chosen["predicted"] - chosen["measured"]).abs()
        assert (gap < allowance + 4 * chosen["measured_se"]).all(), measure


@pytest.mark.slow
def test_ridge_rule(results):
    """Curvature-weighted: within .02 of the best of 13 ridges; a projected kernel gains at least .25."""
    rows = frame(results, "ridge_rule")
    for recipe, chosen in rows.groupby("recipe"):
        weighted = chosen[chosen["kernel"] == "curvature-weighted"]
        rule = weighted.loc[weighted["exponent"] == 0, "lds"].item()
        assert weighted["lds"].max() - rule < 0.02, recipe
        projected = chosen[chosen["kernel"].str.startswith("projected")].set_index("kernel")["lds"]
        assert projected.filter(like="rule").item() - projected.filter(like="μ = 0").item() > 0.25, recipe


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_figures(name, results, tmp_path):
    from importlib import import_module

    from paper_figures.__main__ import figure_modules

    with style():
        paths = import_module(figure_modules()[name]).draw(results).save(name, tmp_path)
    assert all(path.stat().st_size > 0 for path in paths)
    caption = (tmp_path / f"{name}.txt").read_text()
    assert "n = " in caption or "digits" in caption
    assert not any(word in caption for word in ("nan", "None"))
