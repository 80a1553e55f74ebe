"""Findings on networks that torch trained: estimators along the run, and attribution at its end."""

from __future__ import annotations

import pandas as pd

from simulations.findings.finding import Finding
from trak_theory.numerics.estimate import Estimate, mean

FEWEST = 20  # removals that a rank correlation is worth something for
KEYS = ("data", "length", "size", "model", "start", "learning_rate", "replicate")


def _spearman(estimator: str, rates: float, start: str | None = None):
    def measure(rows: pd.DataFrame) -> Estimate:
        return mean(_runs(rows, rates, start)[estimator])

    return measure


def _advantage(better: str, worse: str, rates: float = 1.0, start: str | None = None):
    def measure(rows: pd.DataFrame) -> Estimate:
        table = _runs(rows, rates, start)
        return mean(table[better] - table[worse])

    return measure


def _runs(rows: pd.DataFrame, rates: float, start: str | None) -> pd.DataFrame:
    """Spearman of every estimator (columns) in every run at learning rates up to `rates`, of at least 20 removals."""
    rows = rows[(rows["part"] == "estimator") & (rows["learning_rate"] <= rates) & (rows["removed"] >= FEWEST)]
    if start is not None:
        rows = rows[rows["start"] == start]
    return rows.pivot_table("spearman", [key for key in KEYS if key in rows and rows[key].notna().all()], "estimator")


def _restored(rows: pd.DataFrame) -> Estimate:
    """LDS of restored influence at the rule's ridge minus that of TRAK at k = n/4, μ = 0; mean over networks."""
    rows = rows[rows["part"] == "lds"]
    cells = [key for key in ("data", "recipe", "replicate") if key in rows]
    ours = rows[(rows["score"] == "restored influence") & (rows["exponent"] == 0)].groupby(cells, dropna=False)["lds"]
    theirs = rows[rows["score"] == "TRAK, k = n/4, μ = 0"].groupby(cells, dropna=False)["lds"]
    return mean(ours.mean() - theirs.mean())


def _law(rows: pd.DataFrame) -> Estimate:
    rows = rows[rows["part"] == "law"]
    return mean((rows["predicted"] - rows["measured"]).abs())


def _derivative(rows: pd.DataFrame) -> Estimate:
    return mean(rows.loc[rows["part"] == "run", "derivative_error"])


def _coverage(start: str | None):
    def measure(rows: pd.DataFrame) -> Estimate:
        rows = rows[(rows["part"] == "run") & (rows["removed"] >= FEWEST)]
        return mean(rows["coverage"] if start is None else rows.loc[rows["start"] == start, "coverage"])

    return measure


TRANSFORMERS = (
    "The bound was calibrated on multilayer perceptrons and softmax regression. On transformers it is too narrow, the "
    "more so at large learning rates: read it as about three quarters there, or calibrate it on runs of your own."
)

FINDINGS = (
    *(
        finding
        for study, start in (("torch_mlp", None), ("torch_cnn", None), ("torch_gpt2", "warm"), ("torch_llama", "warm"))
        for finding in (
            Finding(
                study,
                "Spearman of two-step push"
                + (", learning rates ≤ .001" if start is None else ", learning rate 1e-4, after a warm-up"),
                "ours",
                "≥",
                0.95,
                _spearman("two-step", 1e-3 if start is None else 1e-4, start),
            ),
            Finding(
                study,
                "Spearman of two-step push above first order" + ("" if start is None else ", after a warm-up"),
                "ours",
                "≥",
                -0.02,
                _advantage("two-step", "first-order", start=start),
            ),
            Finding(
                study,
                "Spearman of AdamW-influence above the SGD formula" + ("" if start is None else ", after a warm-up"),
                "D",
                "≥",
                -0.02,
                _advantage("first-order", "sgd", start=start),
            ),
        )
    ),
    *(
        finding
        for study in ("torch_mlp", "torch_cnn")
        for finding in (
            Finding(study, "LDS of restored influence above TRAK at k = n/4, μ = 0", "ours", "≥", 0.2, _restored),
            Finding(
                study,
                "|predicted − measured| Kendall of sketched scores with the same-γ kernel",
                "ours",
                "≤",
                0.02,
                _law,
            ),
        )
    ),
    Finding("torch_mlp", "coverage of the calibrated 90 % bound", "ours", "=", 0.9, _coverage(None), 0.05),
    Finding("torch_cnn", "coverage of the calibrated 90 % bound", "ours", "=", 0.9, _coverage(None), 0.05),
    *(
        Finding(
            study,
            "coverage of the calibrated 90 % bound after a warm-up",
            "ours",
            "=",
            0.9,
            _coverage("warm"),
            0.05,
            discussion=TRANSFORMERS,
        )
        for study in ("torch_gpt2", "torch_llama")
    ),
    Finding(
        "torch_gpt2",
        "relative error of first order against central differences of the whole run",
        "ours",
        "≤",
        1e-3,
        _derivative,
    ),
    Finding(
        "torch_gpt2",
        "Spearman of two-step push from scratch, learning rate 3e-3",
        "ours",
        "≥",
        0.8,
        _spearman("two-step", 1.0, "scratch"),
        discussion="The first steps of a transformer from scratch defeat every estimator, though first order is "
        "the exact derivative of that very run: leaving a sample out is no small change there. The verdict says so.",
    ),
)
