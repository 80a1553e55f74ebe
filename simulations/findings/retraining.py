"""Findings on retraining foretold: what each approximation costs in LDS, and LDS from ten retrainings."""

from __future__ import annotations

import pandas as pd
from scipy.stats import kendalltau

from simulations.findings.finding import Finding
from simulations.findings.measures import Measured, contrast, stratified

RECIPE = ["recipe", "fraction", "n"]
NETWORKS = "networks"


def _price(better: str, worse: str):
    """LDS of one rung minus that of another, paired over the subsets of each network."""

    def measure(rows: pd.DataFrame) -> Measured:
        return contrast(rows[rows["fraction"] < 0.9], "rung", better, worse, "lds", RECIPE, NETWORKS)

    return measure


def _prediction_gap(column: str):
    def measure(rows: pd.DataFrame) -> Measured:
        """Mean over scores of |predicted − measured| LDS; the noise of both is in it."""
        rows = rows[rows["predicted"].notna() & (rows["fraction"] < 0.9)]
        gaps = rows.assign(gap=(rows[column] - rows["lds"]).abs())
        return stratified(gaps.groupby([*RECIPE, "replicate"])["gap"].mean(), RECIPE, NETWORKS)

    return measure


def _order(rows: pd.DataFrame) -> Measured:
    """Kendall's τ between LDS against the twin and LDS against retraining, over the seven scores of a network."""
    rows = rows[rows["predicted"].notna() & (rows["fraction"] < 0.9)]
    orders = {
        cell: kendalltau(scores["against_twin"], scores["lds"]).statistic
        for cell, scores in rows.groupby([*RECIPE, "replicate"])
    }
    return stratified(pd.Series(orders).rename_axis([*RECIPE, "replicate"]), RECIPE, NETWORKS)


FINDINGS = (
    Finding(
        "lds_ladder",
        "LDS of the block twin above that of the best sum over points, half subsets",
        "ours",
        "≥",
        0.02,
        _price("twin, block", "sum over points, block"),
    ),
    Finding(
        "lds_ladder",
        "LDS of the refitted block twin above that of its first Newton step",
        "ours",
        "≤",
        0.03,
        _price("twin, block", "group Newton, block"),
    ),
    Finding(
        "lds_ladder",
        "LDS that the ridge of the rule is worth to TRAK scores at k = n/2",
        "ours",
        "≥",
        0.05,
        _price("projection", "no ridge"),
    ),
    Finding(
        "lds_ladder",
        "LDS that projection to k = n/2 costs at the ridge of the rule",
        "ours",
        "≥",
        0.1,
        _price("unit curvature", "projection"),
    ),
    Finding(
        "lds_ladder",
        "|LDS predicted from the twin and ten retrainings − measured on other subsets|, seven scores",
        "ours",
        "≤",
        0.05,
        _prediction_gap("predicted"),
    ),
    Finding(
        "lds_ladder",
        "Kendall τ of seven scores ranked by their LDS against the twin, no retraining, with their measured LDS",
        "ours",
        "≥",
        0.8,
        _order,
    ),
)
