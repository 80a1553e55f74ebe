"""The ladder in LDS on a CNN: every rung, in coordinates and with signs found here by another path."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from simulations.engine.store import Store
from simulations.studies.retraining import lds_ladder_cnn as study
from simulations.studies.retraining.lds_ladder import RUNGS
from simulations.studies.retraining.removed_from_networks import AGAIN, images
from simulations.studies.retraining.share_removed import REMOVAL, TRAJECTORIES
from trak_theory.retraining import lds
from trak_theory.retraining.ridge_rule import ridge_rule
from trak_theory.trajectory import retrain_without

SMALL = {"model": "CNN", "recipe": "AdamW 3e-3", "fraction": 0.5, "samples": 40, "steps": 8, "queries": 3}
SEED = 3


@pytest.fixture(scope="module")
def rows():
    return pd.DataFrame(study.run({**SMALL, "subsets": 16}, np.random.default_rng(SEED)))


def test_every_rung_is_there(rows):
    assert tuple(rows["rung"]) == (AGAIN, *TRAJECTORIES, *RUNGS)
    assert rows["lds"].between(-1.2, 1.0).all()  # less the bias of few subsets
    assert rows.set_index("rung")["lds"]["two-step"] > 0.9


@pytest.fixture(scope="module")
def retrained():
    """The cell's network, subsets and outputs, each subset retrained alone."""
    building, drawing, _ = np.random.default_rng(SEED).spawn(3)
    network, _ = images({**SMALL, "rank": 1}, building)
    subsets = study.random_subsets(40, 20, 16, drawing)
    outputs = []
    for subset in subsets:
        removed = np.flatnonzero(~np.isin(np.arange(40), subset))
        (own,) = retrain_without(network.run, removed[None], removal=REMOVAL).influence(network.query)
        outputs.append(network.query.read(network.run.final) - own)
    return network, subsets, np.array(outputs)


def test_a_sum_is_ranked_against_retrained_subsets(rows, retrained):
    """Restored influence of the margin by one dense solve over the parameters."""
    network, subsets, outputs = retrained
    lin = network.model.linearize()
    scales, training = network.model.scales(lin)
    features, queries = lin.features * scales, lin.queries * scales
    ridge = ridge_rule(replace(lin, features=features, queries=queries), training, fraction=0.5, k=20)
    hessian = features.T @ (lin.curvature[:, None] * features) + ridge.curvature_weighted * np.eye(scales.size)
    scores = -lin.residual[:, None] * (features @ np.linalg.solve(hessian, queries.T))
    sums = np.stack([scores[subset].sum(0) for subset in subsets])
    agreement = np.mean([spearmanr(sums[:, j], outputs[:, j]).statistic for j in range(3)])
    bias = lds(scores, subsets, outputs).estimate.bias
    assert rows.set_index("rung")["lds"]["sum over points, margin"] == pytest.approx(agreement - bias, abs=1e-9)


def test_the_shipped_ladder_falls(shipped):
    mean = Store(shipped).load(study.STUDY).groupby("rung")["lds"].mean()
    assert mean["two-step"] > mean["sum over points, block"] > mean["projection"] > mean["as released"]
