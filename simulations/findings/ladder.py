"""Findings on the ladder from exact leave-one-out influence down to TRAK, its expansions and its certificates."""

from __future__ import annotations

import pandas as pd

from simulations.findings.measures import Measured, by_replicate, contrast, count
from simulations.findings.registry import claim

SETTINGS = ["data", "k_over_p"]
SPLITS = "random splits"


def _rung(rung: str, value: str, data: str | None = None):
    def measure(rows: pd.DataFrame) -> Measured:
        kept = rows[(rows["against"] == "exact") & (rows["rung"] == rung)]
        kept = kept if data is None else kept[kept["data"] == data]
        return by_replicate(kept, value, SETTINGS, SPLITS)

    return measure


def _cost(first: str, second: str):
    """Kendall of one rung minus that of another, paired, at k = p/2."""

    def measure(rows: pd.DataFrame) -> Measured:
        kept = rows[(rows["against"] == "exact") & (rows["k_over_p"] == 0.5)]
        return contrast(kept, "rung", first, second, "kendall", SETTINGS, SPLITS)

    return measure


def _order(series: str):
    def measure(rows: pd.DataFrame) -> Measured:
        kept = rows[(rows["regime"] == "copies") & (rows["series"] == series) & (rows["step"] == 0)]
        return by_replicate(kept, "slope", ["loss"], "random problems")

    return measure


def _pairs(rows: pd.DataFrame) -> Measured:
    kept = rows[(rows["data"] == "digits_3_vs_8") & (rows["ridge"] == 1.0) & (rows["chord_steps"] == 2)]
    return by_replicate(kept, "pairs_proved", ["data"], SPLITS)


def _exponent(regime: str, gap: str, column: str = "slope"):
    def measure(rows: pd.DataFrame) -> Measured:
        kept = rows[(rows["regime"] == regime) & (rows["measure"] == gap)]
        return by_replicate(kept.drop_duplicates("replicate"), column, ["regime"], "random problems")

    return measure


PUBLISHED = "arXiv 2512.12572"  # read in abstract and second hand
NOT_REACHED = (
    "Sizes of this study are far from the limit, and the published bound hides logarithms. "
    "At full size, twenty problems: "
)


FINDINGS = (
    claim(
        "ladder",
        "Kendall of one Newton step with exact leave-one-out, mean over data sets",
        "T",
        _rung("newton", "kendall"),
    ),
    claim(
        "ladder",
        "relative error of influence against exact leave-one-out, Gaussian data, p = n/2",
        "T",
        _rung("influence", "relative_error", "gaussian"),
    ),
    claim(
        "ladder",
        "Kendall of influence with exact leave-one-out, Gaussian data, p = n/2",
        "T",
        _rung("influence", "kendall", "gaussian"),
    ),
    claim(
        "ladder",
        "Kendall with exact leave-one-out lost from influence to one projection of it, k = p/2, mean over data sets",
        "ours",
        _cost("influence", "projected"),
    ),
    claim(
        "ladder",
        "Kendall with exact leave-one-out regained by averaging ten projections, k = p/2, mean over data sets",
        "ours",
        _cost("ensemble", "projected"),
    ),
    *(
        claim(
            "expansion_orders",
            f"order of {series} in copies of the data, logistic and Poisson loss",
            source,
            _order(series),
        )
        for series, order, source in (
            ("IJ-1", -2.0, "Giordano et al. 2019"),
            ("IJ-2", -3.0, "Giordano et al. 2019"),
            ("IJ-3", -4.0, "Giordano et al. 2019"),
            ("newton", -2.0, "Rad & Maleki 2020"),
            ("newton with second-order term", -3.0, "ours"),
        )
    ),
    claim(
        "certified_ranks",
        "problems with an exact influence outside its certified interval",
        "ours",
        lambda rows: count(rows["outside"] > 0, len(rows), "problems and numbers of chord steps"),
    ),
    claim(
        "certified_ranks",
        "share of pairs of digits whose order is proved, ridge 1, two chord steps",
        "ours",
        _pairs,
    ),
    *(
        claim(
            "groups",
            f"exponent in {axis} of the norm of the error {words}, logistic, Gaussian rows",
            PUBLISHED,
            _exponent(axis, gap, column),
            discussion=NOT_REACHED + at_full_size,
        )
        for axis, gap, words, value, column, at_full_size in (
            ("n, d = 10", "newton", "of Newton, one point", -2.0, "slope", "−2.04 (−2.11 to −1.98)."),
            (
                "n, d = 10",
                "difference",
                "of influence against Newton, one point",
                -2.0,
                "slope",
                "−2.03 (−2.07 to −1.98).",
            ),
            ("n, d = n/2", "newton", "of Newton, one point", -1.0, "slope", "−0.95 (−1.00 to −0.91)."),
            (
                "n, d = n/2",
                "difference",
                "of influence against Newton, one point",
                -0.5,
                "slope",
                "−0.48 (−0.51 to −0.45).",
            ),
            ("m, d = 10", "newton", "of group Newton", 1.0, "slope", "1.04 (1.03 to 1.06)."),
            ("m, d = n/2", "newton", "of group Newton", 1.0, "slope", "0.98 (0.96 to 1.01)."),
            (
                "m, d = n/2",
                "difference",
                "of summed influence against group Newton, small groups",
                0.5,
                "first_slope",
                "0.63 (0.55 to 0.71).",
            ),
            (
                "m, d = 10",
                "difference",
                "of summed influence against group Newton, large groups",
                1.5,
                "last_slope",
                "1.32 (1.27 to 1.38), which fails.",
            ),
        )
    ),
)
