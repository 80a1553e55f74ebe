"""The studies of the laws of one fitted model show what they are for, at their quick size."""

from simulations.engine.store import Store
from simulations.engine.study import find_study


def frame(shipped, name):
    return Store(shipped).load(find_study(name))


def test_projection_law(shipped):
    cells = frame(shipped, "projection_law").drop_duplicates(["features", "k_over_n", "ridge_share"])
    assert (cells["spread_of_z"].sub(1).abs() < 0.03 + 4 * cells["spread_of_z_se"]).all()
    assert (cells["slope"].sub(1).abs() < 0.01 + 4 * cells["slope_se"]).all()
    assert cells["coverage"].between(0.93, 0.97).all()


def test_plan(shipped):
    rows = frame(shipped, "plan")
    planned = rows[rows["setting"] == "best ridge"]
    assert ((planned["predicted"] - planned["simulated"]).abs() < 0.02 + 4 * planned["simulated_se"]).all()


def test_audit_digits(shipped):
    rows = frame(shipped, "audit_digits")
    for measure, allowance in (("Kendall", 0.02), ("Pearson", 0.03), ("coverage", 0.015), ("top overlap", 0.03)):
        chosen = rows[rows["measure"] == measure]
        gap = (chosen["predicted"] - chosen["measured"]).abs()
        assert (gap < allowance + 4 * chosen["measured_se"]).all(), measure


def test_ridge_rule(shipped):
    """Curvature-weighted: within .02 of the best of 13 ridges; a projected kernel gains at least .25."""
    rows = frame(shipped, "ridge_rule")
    for recipe, chosen in rows.groupby("recipe"):
        weighted = chosen[chosen["kernel"] == "curvature-weighted"]
        rule = weighted.loc[weighted["exponent"] == 0, "lds"].item()
        assert weighted["lds"].max() - rule < 0.02, recipe
        projected = chosen[chosen["kernel"].str.startswith("projected")].set_index("kernel")["lds"]
        assert projected.filter(like="rule").item() - projected.filter(like="μ = 0").item() > 0.25, recipe
