"""Findings on what a practitioner does: choose a ridge, plan a projection, audit scores."""

from __future__ import annotations

import pandas as pd

from simulations.findings.finding import Finding, contrast
from trak_theory.numerics.estimate import Estimate, mean

CELL = ["recipe", "n", "k", "replicate"]


def _rule_distance(kernel: str):
    def measure(rows: pd.DataFrame) -> Estimate:
        """LDS of the best of 13 ridges minus that of the rule's."""
        rows = rows[rows["kernel"] == kernel]
        best = rows.groupby(CELL)["lds"].max()
        return mean(best - rows[rows["exponent"] == 0].groupby(CELL)["lds"].mean())

    return measure


def _block_gain(rows: pd.DataFrame) -> Estimate:
    """LDS of the softmax block minus that of the margin, both at the rule's ridge."""
    rows = rows[rows["exponent"] == 0]
    return contrast(rows, "kernel", "softmax block", "curvature-weighted", "lds", CELL)


def _rule_gain(rows: pd.DataFrame) -> Estimate:
    """LDS of TRAK with the rule's ridge minus that with μ = 0, everything else equal."""
    projected = rows[rows["kernel"].str.startswith("projected")]
    ruled = projected["kernel"].str.endswith("rule")
    return mean(projected[ruled].groupby(CELL)["lds"].mean() - projected[~ruled].groupby(CELL)["lds"].mean())


def _plan_gap(rows: pd.DataFrame) -> Estimate:
    planned = rows[rows["setting"] == "best ridge"]
    return mean((planned["predicted"] - planned["simulated"]).abs())


def _plan_gain(rows: pd.DataFrame) -> Estimate:
    """Kendall at the planned setting minus the best that μ = 0 reaches at any k."""
    group = ["n", "budget"]
    best = rows[rows["best"] & (rows["setting"] == "best ridge")].groupby(group)["simulated"].max()
    return mean(best - rows[rows["setting"] == "no ridge"].groupby(group)["simulated"].max())


def _audit_gap(measure: str):
    def gap(rows: pd.DataFrame) -> Estimate:
        kept = rows[rows["measure"] == measure]
        return mean((kept["predicted"] - kept["measured"]).abs())

    return gap


FINDINGS = (
    Finding(
        "ridge_rule",
        "LDS lost by the rule against the best of 13 ridges, five recipes",
        "ours",
        "≤",
        0.02,
        _rule_distance("curvature-weighted"),
    ),
    Finding("ridge_rule", "the same with unit curvature", "ours", "≤", 0.02, _rule_distance("unit curvature")),
    Finding(
        "ridge_rule",
        "LDS that TRAK gains when only its ridge is changed from 0 to the rule's",
        "ours",
        "≥",
        0.25,
        _rule_gain,
    ),
    Finding("ridge_rule", "LDS that the softmax block gains over the margin", "ours", "≥", 0.02, _block_gain),
    Finding("plan", "|predicted − simulated| Kendall at the planned ridges", "ours", "≤", 0.03, _plan_gap),
    Finding("plan", "Kendall of the plan above the best k at μ = 0", "ours", "≥", 0.02, _plan_gain),
    Finding(
        "audit_digits",
        "|predicted − measured| Kendall with the same-γ kernel",
        "ours",
        "≤",
        0.015,
        _audit_gap("Kendall"),
    ),
    Finding(
        "audit_digits",
        "|predicted − measured| overlap of the top scores of two projections",
        "ours",
        "≤",
        0.02,
        _audit_gap("top overlap"),
    ),
)
