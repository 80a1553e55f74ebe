"""Findings on removals from networks of torch: which answer follows retraining as more samples go."""

from __future__ import annotations

import pandas as pd

from simulations.findings.measures import Measured, by_replicate, contrast
from simulations.findings.registry import claim
from simulations.studies.retraining.removed_from_networks import AGAIN, BOTH, RESTORED, TWIN

SETTING = ["model", "recipe"]
NETWORKS = "networks"
PER_CENT = (0.005, 0.0101)  # one sample of a hundred or two is 1 % too


def _at_one_per_cent(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["share"].between(*PER_CENT) & (rows["recipe"] == "AdamW 1e-3")]


def _two_step(rows: pd.DataFrame) -> Measured:
    found = _at_one_per_cent(rows)
    return by_replicate(found[found["answer"] == "two-step"], "fidelity", SETTING, NETWORKS)


def _ahead(better: str, worse: str):
    """Fidelity of one answer minus that of another on the same removed sets, 1 % removed."""

    def measure(rows: pd.DataFrame) -> Measured:
        return contrast(_at_one_per_cent(rows), "answer", better, worse, "fidelity", SETTING, NETWORKS)

    return measure


def _both_at_half(rows: pd.DataFrame) -> Measured:
    found = rows[(rows["answer"] == BOTH) & (rows["share"] == 0.5)]
    return by_replicate(found, "fidelity", SETTING, NETWORKS)


def _behind_the_better(rows: pd.DataFrame) -> Measured:
    """Fidelity of the better of two-step and twin, chosen anew on every network, minus that of both; over shares."""
    table = rows[rows["model"] == "CNN"].pivot_table("fidelity", [*SETTING, "share", "replicate"], "answer")
    gap = table[["two-step", TWIN]].max(axis=1) - table[BOTH]
    return by_replicate(gap.rename("gap").reset_index(), "gap", SETTING, f"pairs of {NETWORKS}")


# Registered before any cell of the study was run; one scratch CNN and one scratch GPT-2 had been seen.
# The cells of CNNs were replaced on 2026-11-30, at the same thresholds: in 800 of 4,000 coordinates their twin had lost
# an eighth of its curvature.
FINDINGS = (
    claim(
        "removed_from_networks",
        "fidelity of two-step, 1 % removed, {model}, AdamW at 1e-3",
        "ours",
        _two_step,
        by=("model",),
        at_full="The CNN's interval ends at the bound. Of five Llamas two have two-step estimates of a few "
        "sequences that are far too large; frozen push has .989 to .997 on all five "
        "(docs/removing-points.md).",
    ),
    claim(
        "removed_from_networks",
        "fidelity of two-step above that of first order, 1 % removed, {model}, AdamW at 1e-3",
        "ours",
        _ahead("two-step", "first order"),
        by=("model",),
        at_full="On one CNN of five and one GPT-2 of five first order breaks down (.72 and .62; on the "
        "others .96 and more); a single such network makes the interval.",
    ),
    claim(
        "removed_from_networks",
        "fidelity of two-step above that of restored influence, 1 % removed, {model}, AdamW at 1e-3",
        "ours",
        _ahead("two-step", RESTORED),
        by=("model",),
    ),
    claim(
        "removed_from_networks",
        "fidelity of two-step above that of retraining in another order, 1 % removed, {model}, AdamW at 1e-3",
        "ours",
        _ahead("two-step", AGAIN),
        by=("model",),
        at_full="On Llama another order agrees to .88 and more, which leaves little room, and two-step has "
        "two runs below .98.",
    ),
    claim(
        "removed_from_networks",
        "fidelity of two-step and twin together, half removed, CNN, {recipe}",
        "ours",
        _both_at_half,
        by=("recipe",),
        at_full="After AdamW at 3e-3 each of them alone has .47 and .48. After SGD with momentum half of the "
        "images is too much for every linear estimate, and another batch order agrees to .23 alone: "
        "an answer that does not know the order cannot pass about .48.",
    ),
    claim(
        "removed_from_networks",
        "fidelity of the better of two-step and twin minus that of both together, CNN, {recipe}, mean over shares",
        "ours",
        _behind_the_better,
        by=("recipe",),
        at_full="After SGD with momentum two-step is wrong when many images are removed (−.08 to .24 at "
        "half), and the sum keeps its errors; the twin alone has .20 there.",
    ),
)
