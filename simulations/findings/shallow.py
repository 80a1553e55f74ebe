"""Findings on networks small enough for exact answers: linearisation and the margin shortcut."""

from __future__ import annotations

import numpy as np
import pandas as pd

from simulations.findings.measures import Measured, contrast, count, sample, stratified
from simulations.findings.registry import claim

SETTINGS = ["data", "n", "width", "ridge", "noise"]
NETWORKS = "networks"


def _lazy_slope(rows: pd.DataFrame) -> Measured:
    """Slope of log error of the kernel machine in log output scale s ≥ 4, one a replicate."""
    rows = rows[(rows["curve"] == "output scale") & (rows["estimate"] == "kernel machine") & (rows["size"] >= 4)]
    slopes = [
        np.polyfit(np.log(cell["size"]), np.log(cell["relative_error"]), 1)[0] for _, cell in rows.groupby("replicate")
    ]
    return sample(slopes, NETWORKS)


def _prediction(column: str):
    def measure(rows: pd.DataFrame) -> Measured:
        rows = rows[rows["part"] == "prediction"].set_index([*SETTINGS, "replicate"])
        return stratified(rows[column], SETTINGS, NETWORKS)

    return measure


def _block_gain(rows: pd.DataFrame) -> Measured:
    """LDS of the softmax block minus that of the margin, each at its own best multiple of the ridge rule."""
    network = ["width", "n"]
    rows = rows[rows["truth"] == "datamodels"]
    best = rows.groupby([*network, "replicate", "output"])["lds"].max().reset_index()
    return contrast(best, "output", "block", "margin", "lds", network, NETWORKS)


FINDINGS = (
    claim(
        "feature_learning",
        "slope of the kernel machine's error in the output scale: lazy limit",
        "ours",
        _lazy_slope,
    ),
    claim(
        "linearisation",
        "slope of the true on the predicted linearisation error, trusted points",
        "ours",
        _prediction("slope"),
    ),
    claim(
        "linearisation",
        "partial Spearman of the predicted with the true linearisation error, given influence and leverage",
        "ours",
        _prediction("partial_spearman"),
    ),
    claim(
        "linearisation",
        "share of the squared linearisation error that sits in trusted points",
        "ours",
        _prediction("trusted_error"),
        discussion="The expansion says for which points it is not to be trusted, and these few hold most of the error: "
        "a change of basin is near, or the Hessian is indefinite on the way. It predicts the error of the others.",
    ),
    claim(
        "linearisation",
        "violations of the closed-form bound on the linearisation error",
        "ours",
        lambda rows: count(rows["violations"].sum(), int((rows["part"] == "bound").sum()), "networks"),
    ),
    claim(
        "margin_shortcut",
        "LDS of the softmax block minus LDS of the margin, each at its best ridge",
        "ours",
        _block_gain,
    ),
)
