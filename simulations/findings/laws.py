"""Findings on the laws: ranks predicted before anything is fitted, and the error bars of projections."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.interpolate import griddata

from simulations.findings.finding import Finding, contrast, law_gap, number
from trak_theory.numerics.estimate import Estimate, mean

GRID = ["n", "p", "k", "ridge", "signal", "projected_ridge", "ensemble", "loss", "covariance"]


def _within_grid_error(rows: pd.DataFrame) -> Estimate:
    """Share of the cells whose Kendall lies within 3.5 s.e. + .2/√n of the law."""
    rows = rows[rows["grid"] == "grid"]
    law = rows[rows["part"] == "law"].set_index(GRID)["kendall"]
    data = rows[rows["part"] == "data"].groupby(GRID)["kendall"].agg(["mean", "sem"])
    size = data.index.get_level_values("n").to_numpy()
    return number(np.mean(np.abs(data["mean"] - law.loc[data.index]) <= 3.5 * data["sem"] + 0.2 / np.sqrt(size)))


def _plane_gap(rows: pd.DataFrame) -> Estimate:
    """The law, interpolated between the points of its map, against the mean over data sets."""
    gaps = []
    for _, part in rows.groupby(["ensemble", "projected_ridge_over_n"]):
        law, data = part[part["part"] == "law"], part[part["part"] == "data"]
        data = data.groupby(["p_over_n", "k_over_p"])["kendall"].mean().reset_index()
        at = np.log(law[["p_over_n", "k_over_p"]]), law["kendall"], np.log(data[["p_over_n", "k_over_p"]])
        gaps.append(np.abs(griddata(*at) - data["kendall"]))
    return mean(np.concatenate(gaps))


def _usual_law(rows: pd.DataFrame) -> Estimate:
    """Kendall of simulated data minus (2/π) asin ρ of equal leverage, at the widest spread of leverages."""
    rows = rows[(rows["score"] == "trak") & (rows["spread"] == rows["spread"].max())]
    wrong = rows[rows["part"] == "law"].groupby("loss")["equal_leverage_kendall"].mean()
    data = rows[rows["part"] == "data"]
    return mean(data["kendall"] - data["loss"].map(wrong))


def _beats_exact(rows: pd.DataFrame) -> Estimate:
    """LDS of the best kernel ridge minus that of exact leave-one-out influence, p = 2n, paired over data sets."""
    rows = rows[(rows["part"] == "data") & (rows["p_over_n"] > 1)]
    best = rows.groupby(["replicate", "score"])["lds"].max().reset_index()
    return contrast(best, "score", "kernel", "exact", "lds", ["replicate"])


def _spread(rows: pd.DataFrame) -> Estimate:
    """The z-spread that is farthest from 1, one number a cell."""
    cells = rows.drop_duplicates(["features", "k_over_n", "ridge_share", "n"])
    worst = cells.iloc[int(np.argmax(np.abs(cells["spread_of_z"] - 1)))]
    return Estimate(float(worst["spread_of_z"]), float(worst["spread_of_z_se"]))


FINDINGS = (
    Finding(
        "rank_law",
        "|law − simulation| in Kendall, mean over k, p/n, J and μ",
        "ours",
        "≤",
        0.02,
        lambda rows: law_gap(rows, ["p_over_n", "k", "ensemble", "projected_ridge"]),
    ),
    Finding(
        "rank_grid",
        "share of random settings with Kendall within 3.5 s.e. + .2/√n",
        "ours",
        "≥",
        1.0,
        _within_grid_error,
    ),
    Finding(
        "spectrum",
        "|law − simulation| in Kendall over five spectra",
        "ours",
        "≤",
        0.03,
        lambda rows: law_gap(rows, ["covariance", "k"]),
    ),
    Finding(
        "leverage",
        "|law − simulation| in Kendall, elliptical rows",
        "ours",
        "≤",
        0.02,
        lambda rows: law_gap(rows[rows["score"] == "trak"], ["loss", "spread"]),
    ),
    Finding("leverage", "Kendall beyond what equal leverages would give", "ours", "≥", 0.01, _usual_law),
    Finding("phase", "|law − simulation| in Kendall over the plane of p/n and k/p", "ours", "≤", 0.03, _plane_gap),
    Finding(
        "lds_law",
        "|law − simulation| of the LDS of TRAK, kernel and truth",
        "ours",
        "≤",
        0.02,
        lambda rows: law_gap(rows, ["p_over_n", "score", "at"], "lds"),
    ),
    Finding(
        "lds_law",
        "LDS of the best kernel minus that of exact influence, p = 2n: LDS is not leave-one-out fidelity",
        "ours",
        "≥",
        0.02,
        _beats_exact,
    ),
    Finding(
        "projection_law", "standard deviation of z-scores, the worst of the cells", "ours", "=", 1.0, _spread, 0.03
    ),
    Finding(
        "projection_law",
        "coverage of 95 % error bars",
        "ours",
        "=",
        0.95,
        lambda rows: mean(rows.drop_duplicates(["features", "k_over_n", "ridge_share", "n"])["coverage"]),
        0.01,
    ),
)
