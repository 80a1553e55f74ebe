"""The studies of the laws of one fitted model show what they are for, at their quick size."""

from dataclasses import replace

import numpy as np

from paper_figures.practice import remedy_examples as figure
from simulations.engine.runner import run
from simulations.engine.store import Store
from simulations.engine.study import find_study, grid
from simulations.studies.practice import remedy_examples
from simulations.workloads.data import digits


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


def test_remedy_examples(tmp_path):
    """At a small size: images are the first of their scores, the truth those of its own, and the figure says which."""
    small = grid(n=[120], p=[150], k=[90], queries=[figure.ASKED], replicate=range(2))
    study = replace(remedy_examples.STUDY, quick=small, full=small)
    (outcome,) = run([study], out=tmp_path)
    assert (outcome.computed, outcome.failures) == (2, [])
    rows = Store(tmp_path).load(study)
    assert (rows.groupby(["replicate", "query", "answer"])["rank"].apply(list).map(len) == remedy_examples.TOP).all()
    exact = rows[rows["answer"] == remedy_examples.EXACT]
    np.testing.assert_allclose(exact["spearman"], 1.0)
    assert np.array_equal(exact["score"], exact["truth"])
    assert (rows.groupby(["replicate", "query", "answer"])["score"].diff().dropna() <= 0).all()
    assert set(digits()[1][rows["query_image"]]) == {remedy_examples.DIGIT}
    for _, split in rows.groupby("replicate"):
        assert not set(split["query_image"]) & set(split["image"])
    means = rows.groupby("answer")["spearman"].mean()
    assert means[remedy_examples.RULED] > means[remedy_examples.RELEASED] + 0.2
    named = figure._named_by_exact(rows)
    assert named[exact.index].all()
    assert 0 < named.mean() < 1
