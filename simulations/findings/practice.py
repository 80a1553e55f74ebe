"""Findings on what a practitioner does: choose a ridge, plan a projection, audit scores."""

from __future__ import annotations

import numpy as np
import pandas as pd

from simulations.findings.measures import NORMAL, Measured, contrast, known, stratified
from simulations.findings.registry import claim
from simulations.studies.practice.remedy_examples import RELEASED, RULED

RECIPE = ["recipe", "n", "k"]
NETWORKS = "networks"


def _rule_distance(kernel: str):
    def measure(rows: pd.DataFrame) -> Measured:
        """LDS of the best of 13 ridges minus that of the rule's."""
        cells = rows[rows["kernel"] == kernel].groupby([*RECIPE, "replicate"])
        ruled = rows[(rows["kernel"] == kernel) & (rows["exponent"] == 0)].groupby([*RECIPE, "replicate"])
        return stratified(cells["lds"].max() - ruled["lds"].mean(), RECIPE, NETWORKS)

    return measure


def _block_gain(rows: pd.DataFrame) -> Measured:
    """LDS of the softmax block minus that of the margin, both at the rule's ridge."""
    rows = rows[rows["exponent"] == 0]
    return contrast(rows, "kernel", "softmax block", "curvature-weighted", "lds", RECIPE, NETWORKS)


def _rule_gain(rows: pd.DataFrame) -> Measured:
    """LDS of TRAK with the rule's ridge minus that with μ = 0, everything else equal."""
    projected = rows[rows["kernel"].str.startswith("projected")]
    projected = projected.assign(ruled=projected["kernel"].str.endswith("rule"))
    return contrast(projected, "ruled", True, False, "lds", RECIPE, NETWORKS)


def _examples_gain(rows: pd.DataFrame) -> Measured:
    """Over the queries of a split, paired: both ridges share the projection."""
    return contrast(rows, "answer", RULED, RELEASED, "spearman", ["n", "p", "k"], "splits")


def _plan_gap(rows: pd.DataFrame) -> Measured:
    planned = rows[rows["setting"] == "best ridge"]
    return known(planned["predicted"] - planned["simulated"], planned["simulated_se"], "independent projections")


def _plan_gain(rows: pd.DataFrame) -> Measured:
    """Kendall at the planned setting minus the best that μ = 0 reaches at any k: chosen with hindsight, so too high."""
    planned = rows[rows["best"] & (rows["setting"] == "best ridge")].iloc[0]
    plain = rows[rows["setting"] == "no ridge"]
    best = plain.loc[plain["simulated"].idxmax()]
    half = NORMAL * np.hypot(planned["simulated_se"], best["simulated_se"])
    gain = float(planned["simulated"] - best["simulated"])
    return Measured(gain, gain - half, gain + half, f"{rows['draws'].min()} draws of projections, one network")


def _audit_gap(measure: str):
    def gap(rows: pd.DataFrame) -> Measured:
        kept = rows[rows["measure"] == measure]
        return known(kept["predicted"] - kept["measured"], kept["measured_se"], "independent projections")

    return gap


FINDINGS = (
    claim(
        "ridge_rule",
        "LDS of the best of 13 ridges minus LDS at the rule's, curvature-weighted, mean over recipes",
        "ours",
        _rule_distance("curvature-weighted"),
    ),
    claim(
        "ridge_rule",
        "LDS of the best of 13 ridges minus LDS at the rule's, unit curvature, mean over recipes",
        "ours",
        _rule_distance("unit curvature"),
    ),
    claim(
        "ridge_rule",
        "LDS that TRAK gains when only its ridge is changed from 0 to the rule's, mean over recipes",
        "ours",
        _rule_gain,
    ),
    claim(
        "ridge_rule",
        "LDS of the softmax block minus LDS of the margin, mean over recipes",
        "ours",
        _block_gain,
    ),
    claim(
        "remedy_examples",
        "Spearman with exact leave-one-out that TRAK gains when only its ridge is changed from 0 to the rule's, digits",
        "ours",
        _examples_gain,
    ),
    claim(
        "plan",
        "mean |predicted − simulated Kendall| over every k of a plan, at the planned ridges",
        "ours",
        _plan_gap,
    ),
    claim(
        "plan",
        "simulated Kendall of the plan minus that of the best k without a ridge, n = {n}, {budget} numbers a sample",
        "ours",
        _plan_gain,
        by=("n", "budget"),
    ),
    claim(
        "audit_digits",
        "mean |predicted − measured Kendall| of scores with the kernel of the same implicit ridge",
        "ours",
        _audit_gap("Kendall"),
    ),
    claim(
        "audit_digits",
        "mean |predicted − measured overlap| of the top scores of two projections",
        "ours",
        _audit_gap("top overlap"),
    ),
)
