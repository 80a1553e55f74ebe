"""Findings on networks small enough for exact answers: linearisation and the margin shortcut."""

from __future__ import annotations

import numpy as np
import pandas as pd

from simulations.findings.finding import Finding, contrast, number
from trak_theory.numerics.estimate import Estimate, mean


def _lazy_slope(rows: pd.DataFrame) -> Estimate:
    """Slope of log error of the kernel machine in log output scale s ≥ 4, one a replicate."""
    rows = rows[(rows["curve"] == "output scale") & (rows["estimate"] == "kernel machine") & (rows["size"] >= 4)]
    slopes = [
        np.polyfit(np.log(cell["size"]), np.log(cell["relative_error"]), 1)[0] for _, cell in rows.groupby("replicate")
    ]
    return mean(slopes)


def _prediction(column: str):
    def measure(rows: pd.DataFrame) -> Estimate:
        return mean(rows.loc[rows["part"] == "prediction", column])

    return measure


def _predicted_share(rows: pd.DataFrame) -> Estimate:
    """Share of the squared linearisation error that sits in points whose prediction is trusted."""
    return mean(rows.loc[rows["part"] == "prediction", "trusted_error"])


def _block_gain(rows: pd.DataFrame) -> Estimate:
    """LDS of the softmax block minus that of the margin, each at its own best multiple of the ridge rule."""
    network = ["width", "n", "replicate"]
    rows = rows[rows["truth"] == "datamodels"].groupby([*network, "output"])["lds"].max().reset_index()
    return contrast(rows, "output", "block", "margin", "lds", network)


FINDINGS = (
    Finding(
        "feature_learning",
        "slope of the kernel machine's error in the output scale: lazy limit",
        "ours",
        "=",
        -1.0,
        _lazy_slope,
        0.15,
    ),
    Finding(
        "linearisation",
        "slope of the true on the predicted linearisation error, trusted points",
        "ours",
        "=",
        1.0,
        _prediction("slope"),
        0.2,
    ),
    Finding(
        "linearisation",
        "partial Spearman of the predicted error, given influence and leverage",
        "ours",
        "≥",
        0.5,
        _prediction("partial_spearman"),
    ),
    Finding(
        "linearisation",
        "share of the squared error that sits in trusted points",
        "ours",
        "≥",
        0.5,
        _predicted_share,
        discussion="The expansion says for which points it is not to be trusted, and these few hold most of the error: "
        "a change of basin is near, or the Hessian is indefinite on the way. It predicts the error of the others.",
    ),
    Finding(
        "linearisation",
        "violations of the closed-form bound",
        "ours",
        "≤",
        0.0,
        lambda rows: number(rows["violations"].sum()),
    ),
    Finding("margin_shortcut", "LDS that the softmax block gains over the margin", "ours", "≥", 0.03, _block_gain),
)
