"""Findings on look-ahead: how faithful its scores are, and what selecting by them gains. Two questions, kept apart."""

from __future__ import annotations

import numpy as np
import pandas as pd

from simulations.findings.finding import Finding, contrast
from trak_theory.numerics.estimate import Estimate, mean

RUN = ["learning_rate", "replicate"]


def _own(estimator: str, horizon: int):
    def measure(rows: pd.DataFrame) -> Estimate:
        """Spearman with retraining at the score's own read-out, one mean a run."""
        rows = rows[(rows["estimator"] == estimator) & (rows["horizon"] == horizon)]
        return mean(rows.groupby(RUN)["own"].mean())

    return measure


def _ceiling(rows: pd.DataFrame) -> Estimate:
    """Spearman of the exact effect on the next step's loss with the effect on the end of the run."""
    rows = rows[(rows["estimator"] == "retraining") & (rows["horizon"] == 0)]
    return mean(rows.groupby(RUN)["final"].mean())


def _gain(policy: str, over: str, value: str = "test_loss"):
    """Test loss of `over` minus that of `policy` (accuracy: the other way round), paired over runs."""

    def measure(rows: pd.DataFrame) -> Estimate:
        first, second = (over, policy) if value == "test_loss" else (policy, over)
        return contrast(rows, "policy", first, second, value, RUN)

    return measure


def _same_compute(rows: pd.DataFrame) -> Estimate:
    """Test loss of selection at K = 0 minus that of random selection with the same compute."""
    random = rows[(rows["policy"] == "random, more steps, stopped") & (rows["compute_of"] == "K = 0")]
    chosen = rows[rows["policy"] == "K = 0"]
    return mean(chosen.groupby(RUN)["test_loss"].mean() - random.groupby(RUN)["test_loss"].mean())


def _growth(rows: pd.DataFrame) -> Estimate:
    """log₂(1 + K*) at the smallest learning rate minus that at the largest, K* the best finite horizon of each run."""
    rows = rows[(rows["policy"] == "look-ahead") & (rows["horizon"] >= 0)]
    best = rows.loc[rows.groupby(RUN)["judge_loss"].idxmin()].set_index(RUN)["horizon"]
    best = np.log2(1 + best).unstack("learning_rate")
    return mean(best[best.columns.min()] - best[best.columns.max()])


FINDINGS = (
    Finding(
        "lookahead_fidelity",
        "Spearman of K = 0 scores with retraining, one step later",
        "ours",
        "≥",
        0.95,
        _own("first-order", 0),
    ),
    Finding(
        "lookahead_fidelity",
        "Spearman of K = 16 scores with retraining, 17 steps later",
        "ours",
        "≥",
        0.95,
        _own("first-order", 16),
    ),
    Finding("lookahead_fidelity", "the same in SGD's geometry, on an AdamW run", "D", "≤", 0.9, _own("sgd", 16)),
    Finding(
        "lookahead_fidelity",
        "Spearman of the exact one-step effect with the effect on the end: no score at K = 0 can rank better",
        "ours",
        "≤",
        0.7,
        _ceiling,
    ),
    Finding(
        "lookahead_selection",
        "test loss gained over random at equal steps, K = 0",
        "D",
        "≥",
        0.1,
        _gain("K = 0", "random"),
    ),
    Finding(
        "lookahead_selection",
        "test loss gained by AdamW's geometry over SGD's, K = 0",
        "ours",
        "≥",
        0.0,
        _gain("K = 0", "SGD geometry, K = 0"),
    ),
    Finding(
        "lookahead_selection",
        "test loss gained by K = 4 over offline scores: short horizons match or beat offline",
        "D",
        "≥",
        0.0,
        _gain("K = 4", "offline"),
    ),
    Finding(
        "lookahead_selection",
        "test accuracy gained over random at equal steps, K = 0",
        "ours",
        "≥",
        0.0,
        _gain("K = 0", "random", "test_accuracy"),
        discussion="Selection lowers the test loss and not the accuracy: it keeps what is easy to be confident about. "
        "Whoever is after accuracy should look at the next line too.",
    ),
    Finding(
        "lookahead_selection",
        "test loss lost against random selection given the same compute",
        "ours",
        "≥",
        0.0,
        _same_compute,
    ),
    Finding(
        "horizon_map",
        "growth of log₂(1 + K*) from the largest to the smallest learning rate",
        "D",
        "≥",
        1.0,
        _growth,
        discussion="The best finite horizon of single runs scatters over the whole grid; four runs a rate show no "
        "growth, and the intervals of the study mostly say no difference.",
    ),
)
