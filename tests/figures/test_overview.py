"""The overview draws whatever its studies stored: here tables made up in their columns."""

from itertools import product

import pandas as pd
import pytest

from paper_figures import overview
from paper_figures.drawing.style import style
from simulations.engine.reading import reading
from simulations.engine.store import Store
from simulations.engine.study import find_study
from simulations.findings.registry import CONFIRMATION


def table(**columns):
    """All combinations of the columns, with numbers that grow along the rows."""
    rows = pd.DataFrame(list(product(*columns.values())), columns=list(columns))
    grown = (1.0 + rows.index.to_numpy()) / (1.0 + len(rows))
    numbers = ("kendall", "lds", "se", "spearman", "relative_error", "predicted_sd", "simulated_sd")
    sizes = {"n": 200, "draws": 100, "steps": 60, "hidden": 24, "queries": 60, "ensemble": 10, "k_over_p": 0.5}
    absent = {name: size for name, size in sizes.items() if name not in columns}
    return rows.assign(**absent, **dict.fromkeys(numbers, grown))


TABLES = {
    "ladder": table(data=["a", "b"], rung=list(overview.RUNGS), against=["exact", "newton"]),
    **{
        name: table(part=["law", "data"], replicate=[0, 1], **dict.fromkeys(setting, (1, 2)))
        for name, setting in overview.LAWS.items()
        if name != "leverage"
    },
    "leverage": table(
        part=["law", "data"], loss=["squared"], spread=[0.0, 1.0], score=["trak", "influence"], replicate=[0]
    ),
    "projection_law": table(features=["random features", "network gradients"], draw=range(3)),
    "ridge_rule": table(
        recipe=["AdamW", "SGD"],
        kernel=["softmax block", "curvature-weighted", "projected, k = 200, rule", "projected, k = 200, μ = 0"],
        exponent=[0.0],
    ),
    "optimizer_mismatch": table(
        optimizer=["adamw", "sgd"], formula=list(overview.FORMULAS), learning_rate=[0.001, 0.01], replicate=[0, 1]
    ),
    "retrain_top": table(learning_rate=[0.03], order=["largest", "random"], retrained=[0, 20], replicate=[0, 1]),
}


def test_six_panels_with_their_numbers(monkeypatch, tmp_path):
    monkeypatch.setattr(overview, "_load", lambda results, name: TABLES[name])
    with style():
        drawing = overview.draw(tmp_path)
        paths = drawing.save("overview", tmp_path)
    assert all(path.stat().st_size > 0 for path in paths)
    assert set(drawing.numbers["panel"]) == set("abcdef")
    shown = drawing.numbers[drawing.numbers["panel"] == "e"].set_index(["formula", "learning_rate"])["mean"]
    rows = TABLES["optimizer_mismatch"]
    rows = rows[(rows["optimizer"] == "adamw") & (rows["formula"] == "sgd") & (rows["learning_rate"] == 0.01)]
    assert shown["sgd", 0.01] == pytest.approx(rows["spearman"].mean())


@pytest.mark.parametrize(("size", "seed"), [("quick", 0), ("full", CONFIRMATION)])
@pytest.mark.parametrize("name", overview.LAWS)
def test_a_point_of_the_laws_has_one_law(name, size, seed, both_sizes):
    """Two sample sizes in one group would have two laws and two numbers of data sets: a residual of neither."""
    with reading([seed], whole=size):
        rows = Store(both_sizes).load(find_study(name))
    laws = rows[rows["part"] == "law"]
    laws = laws[laws["score"] == "trak"] if "score" in laws else laws
    spread = laws.groupby(overview.LAWS[name])["kendall"].agg(lambda values: values.max() - values.min())
    assert spread.max() < 1e-9
