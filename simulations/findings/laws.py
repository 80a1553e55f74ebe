"""Findings on the laws: ranks predicted before anything is fitted, and the error bars of projections."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.interpolate import griddata

from simulations.findings.measures import Measured, contrast, count, known, law_gap, sample, stratified
from simulations.findings.registry import claim
from simulations.studies.laws import premises

GRID = ["n", "p", "k", "ridge", "signal", "projected_ridge", "ensemble", "loss", "covariance"]
PROJECTED = ["features", "k_over_n", "ridge_share", "n"]
DATA_SETS = "data sets"


def _outside_grid_error(rows: pd.DataFrame) -> Measured:
    """Settings whose Kendall lies farther than 3.5 s.e. + .2/√n from the law."""
    rows = rows[rows["grid"] == "grid"]
    law = rows[rows["part"] == "law"].set_index(GRID)["kendall"]
    data = rows[rows["part"] == "data"].groupby(GRID)["kendall"].agg(["mean", "sem"])
    size = data.index.get_level_values("n").to_numpy()
    outside = np.abs(data["mean"] - law.loc[data.index]) > 3.5 * data["sem"] + 0.2 / np.sqrt(size)
    return count(outside, len(outside), "settings, fixed beforehand")


def _plane_gap(rows: pd.DataFrame) -> Measured:
    """The law, interpolated between the points of its map, against the mean over data sets."""
    axes, settings = ["p_over_n", "k_over_p"], ["ensemble", "projected_ridge_over_n"]
    pieces = []
    for values, part in rows.groupby(settings):
        law, data = part[part["part"] == "law"], part[part["part"] == "data"]
        at = data[axes].drop_duplicates()
        found = griddata(np.log(law[axes]), law["kendall"], np.log(at))
        predicted = at.assign(kendall=found, part="law", **dict(zip(settings, values, strict=True)))
        pieces += [data, predicted.dropna(subset="kendall")]
    return law_gap(pd.concat(pieces), ["p_over_n"], ["k_over_p", *settings])


def _usual_law(rows: pd.DataFrame) -> Measured:
    """Kendall of simulated data minus (2/π) asin ρ of equal leverage, at the widest spread of leverages."""
    rows = rows[(rows["score"] == "trak") & (rows["spread"] == rows["spread"].max())]
    wrong = rows[rows["part"] == "law"].groupby("loss")["equal_leverage_kendall"].mean()
    data = rows[rows["part"] == "data"].set_index(["loss", "replicate"])["kendall"]
    return stratified(data - wrong, ["loss"], DATA_SETS)


def _beats_exact(rows: pd.DataFrame) -> Measured:
    """LDS of the best kernel ridge minus that of exact leave-one-out influence, p = 2n."""
    rows = rows[(rows["part"] == "data") & (rows["p_over_n"] > 1)]
    best = rows.groupby(["p_over_n", "replicate", "score"])["lds"].max().reset_index()
    return contrast(best, "score", "kernel", "exact", "lds", ["p_over_n"], DATA_SETS)


def _silent(rows: pd.DataFrame) -> Measured:
    """Harmful errors, beyond two standard errors, that no warning announces."""
    judged = premises.judge(rows)
    return count(judged["harmful"] & (judged["warnings"] == ""), len(judged), "designs and sketches")


def _kept(rows: pd.DataFrame) -> Measured:
    """Fresh projections that reach what was promised; those of one answer share its error."""
    return sample(rows["kept"] / rows["fresh"], "answers, 100 projections each")


def _promised(rows: pd.DataFrame) -> Measured:
    """Promised share over the mean share that fresh projections reach."""
    return sample(rows["promised"] / rows["reached"], "answers")


def _of_draws(value: str, target: float):
    def measure(rows: pd.DataFrame) -> Measured:
        cells = rows.drop_duplicates(PROJECTED)
        return known(cells[value] - target, cells[f"{value}_se"], f"{cells['draws'].min()} projections")

    return measure


FINDINGS = (
    claim(
        "rank_law",
        "mean |law − simulated Kendall of TRAK with exact leave-one-out| over p/n, k, ensembles and ridges",
        "ours",
        lambda rows: law_gap(rows, ["n", "p_over_n"], ["k", "ensemble", "projected_ridge"]),
    ),
    claim(
        "rank_grid",
        "random settings whose simulated Kendall is farther than 3.5 s.e. + .2/√n from the law",
        "ours",
        _outside_grid_error,
    ),
    claim(
        "spectrum",
        "mean |law − simulated Kendall| over five spectra of the features",
        "ours",
        lambda rows: law_gap(rows, ["n", "covariance"], ["k"]),
    ),
    claim(
        "leverage",
        "mean |law − simulated Kendall| where rows are elliptical",
        "ours",
        lambda rows: law_gap(rows[rows["score"] == "trak"], ["loss", "spread"], ["score"]),
    ),
    claim(
        "leverage",
        "simulated Kendall minus what equal leverages would give, widest spread of leverages",
        "ours",
        _usual_law,
    ),
    claim("phase", "mean |law − simulated Kendall| over the plane of p/n and k/p", "ours", _plane_gap),
    claim(
        "lds_law",
        "mean |law − simulated LDS| of TRAK, kernel ridge and exact influence",
        "ours",
        lambda rows: law_gap(rows, ["n", "p_over_n", "ridge_over_n"], ["score", "at"], "lds"),
    ),
    claim(
        "lds_law",
        "LDS of the best kernel ridge minus LDS of exact leave-one-out influence, p = 2n",
        "ours",
        _beats_exact,
    ),
    claim(
        "projection_law",
        "mean |s.d. of z-scores − 1| over projections of random features and network gradients",
        "ours",
        _of_draws("spread_of_z", 1.0),
    ),
    claim(
        "projection_law",
        "mean |coverage of 95 % error bars − .95|, random features and network gradients",
        "ours",
        _of_draws("coverage", 0.95),
    ),
    claim(
        "premises",
        "harmful errors of the rank and projection laws, on designs that break them, without a warning",
        "ours",
        _silent,
    ),
    claim(
        "order_confidence",
        "share of fresh projections that reach the order promised with probability .99, mean over settings, {method}",
        "ours",
        _kept,
        by=("method",),
    ),
    claim(
        "order_confidence",
        "promised share of pairs in order over the mean share that projections reach, mean over settings, {method}",
        "ours",
        _promised,
        by=("method",),
    ),
)
