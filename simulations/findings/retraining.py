"""Findings on retraining foretold: what each approximation costs in LDS, and LDS from ten retrainings."""

from __future__ import annotations

import pandas as pd
from scipy.stats import kendalltau

from simulations.findings.measures import Measured, by_replicate, contrast, stratified
from simulations.findings.registry import claim
from simulations.studies.retraining.best_answer import AVERAGE, AVERAGED, LINEAR, NETWORK, STARTED, SUM
from simulations.studies.retraining.restored_networks import RULED, SKETCHED, SOLVED
from simulations.studies.retraining.sketched_restored import BLOCK, TRAK, directions, of_layer

RECIPE = ["recipe", "fraction", "n"]
NETWORKS = "networks"


def _price(better: str, worse: str):
    """LDS of one rung minus that of another, paired over the subsets of each network."""

    def measure(rows: pd.DataFrame) -> Measured:
        return contrast(rows[rows["fraction"] < 0.9], "rung", better, worse, "lds", RECIPE, NETWORKS)

    return measure


def _knowing_the_order(rows: pd.DataFrame) -> Measured:
    return _price("two-step", "sum over points, block")(rows[rows["recipe"] == "AdamW 1e-3"])


def _prediction_gap(column: str):
    def measure(rows: pd.DataFrame) -> Measured:
        """Mean over scores of |predicted − measured| LDS; the noise of both is in it."""
        rows = rows[rows["predicted"].notna() & (rows["fraction"] < 0.9)]
        gaps = rows.assign(gap=(rows[column] - rows["lds"]).abs())
        return stratified(gaps.groupby([*RECIPE, "replicate"])["gap"].mean(), RECIPE, NETWORKS)

    return measure


def _order(rows: pd.DataFrame) -> Measured:
    """Kendall's τ between LDS against the twin and LDS against retraining, over the seven scores of a network."""
    rows = rows[rows["predicted"].notna() & (rows["fraction"] < 0.9)]
    orders = {
        cell: kendalltau(scores["against_twin"], scores["lds"]).statistic
        for cell, scores in rows.groupby([*RECIPE, "replicate"])
    }
    return stratified(pd.Series(orders).rename_axis([*RECIPE, "replicate"]), RECIPE, NETWORKS)


def _ahead(better: str, worse: str, *, share: float | None = None, recipe: str = ""):
    """Fidelity of one answer minus that of another on the same removed sets; of the recipes that hold `recipe`."""

    def measure(rows: pd.DataFrame) -> Measured:
        return contrast(_removals(rows, share, recipe), "answer", better, worse, "fidelity", SHARE_RECIPE, NETWORKS)

    return measure


def _behind_the_better(rows: pd.DataFrame) -> Measured:
    """Fidelity of the better of two-step and twin, chosen anew on every network, minus that of both together."""
    table = rows.pivot_table("fidelity", [*SHARE_RECIPE, "share", "replicate"], "answer")
    gap = table[["two-step", "twin"]].max(axis=1) - table["two-step and twin"]
    return stratified(gap, SHARE_RECIPE, f"pairs of {NETWORKS}")


def _answer_gain(better: tuple[str, int], worse: tuple[str, int]):
    """LDS of one (answer, retrainings) minus that of another on the same subsets."""

    def measure(rows: pd.DataFrame) -> Measured:
        named = rows.assign(named=[f"{answer} {m}" for answer, m in zip(rows["answer"], rows["m"], strict=True)])
        first, second = (f"{answer} {m}" for answer, m in (better, worse))
        return contrast(named, "named", first, second, "lds", ["recipe", "n"], NETWORKS)

    return measure


def _best_answer(rows: pd.DataFrame) -> Measured:
    best = rows[(rows["answer"] == STARTED) & (rows["m"] == AVERAGED)]
    return stratified(best.set_index(["recipe", "n", "replicate"])["lds"], ["recipe", "n"], NETWORKS)


def _sketched_gain(better: tuple[str, int, float], worse: tuple[str, int, float]):
    """LDS of one (answer, k, sketches) minus that of another; k = 0: no sketch."""

    def measure(rows: pd.DataFrame) -> Measured:
        rows = rows[rows["kind"] != "normal"]
        columns = zip(rows["answer"], rows["k"], rows["sketches"].fillna(0.0), strict=True)
        named = rows.assign(named=[f"{answer} {k} {sketches:g}" for answer, k, sketches in columns])
        first, second = (f"{answer} {k} {sketches:g}" for answer, k, sketches in (better, worse))
        return contrast(named, "named", first, second, "lds", ["recipe", "n"], NETWORKS)

    return measure


def _covered(rows: pd.DataFrame) -> Measured:
    return by_replicate(rows[rows["covered"].notna()], "covered", ["recipe", "n"], NETWORKS)


def _smooth_at_one_per_cent(rows: pd.DataFrame) -> Measured:
    rows = _removals(rows, 0.01, "AdamW 3e-3")
    rows = rows[(rows["activation"] == "tanh") & (rows["answer"] == "two-step")]
    return stratified(rows.set_index([*SHARE_RECIPE, "replicate"])["fidelity"], SHARE_RECIPE, NETWORKS)


def _removals(rows: pd.DataFrame, share: float | None, recipe: str) -> pd.DataFrame:
    kept = rows["recipe"].str.contains(recipe, regex=False)
    return rows[kept if share is None else kept & ((rows["share"] - share).abs() < 1e-9)]


SHARE_RECIPE = ["activation", "recipe", "n"]

# All thresholds of `share_removed` were set before any fidelity of the study had been looked at; afterwards a gain that
# was asked to be ≥ 0 was raised to ≥ .001.
SHARE_REMOVED = (
    claim(
        "share_removed",
        "fidelity of the better of two-step and twin minus that of both together, share {share:g} removed",
        "ours",
        _behind_the_better,
        by=("share",),
        at_full="On ReLU networks trained on full batches with momentum the twin alone is .04 to .10 better "
        "from 10 % on; at half both together are ahead by .04 and more after AdamW at 3e-3 and 1e-2 "
        "on ReLU and at 1e-2 on tanh.",
    ),
    claim(
        "share_removed",
        "fidelity with weights 1 − s and s minus that of two-step and twin together, share {share:g} removed",
        "ours",
        _ahead("weights 1 − s and s", "two-step and twin"),
        by=("share",),
        at_full="On full batches with momentum the fixed weights are ahead by .02 to .06 from 10 % on, and "
        "level or behind after AdamW: two estimates with errors of their own average, while the sum "
        "keeps all of two-step's.",
    ),
    claim(
        "share_removed",
        "fidelity of two-step above that of first order, 1 % removed, AdamW",
        "ours",
        _ahead("two-step", "first order", share=0.01, recipe="AdamW"),
    ),
    claim(
        "share_removed",
        "fidelity of two-step, 1 % removed, tanh network, AdamW at 3e-3",
        "ours",
        _smooth_at_one_per_cent,
    ),
    claim(
        "share_removed",
        "fidelity of two-step above that of restored influence, 1 % removed, AdamW",
        "ours",
        _ahead("two-step", "restored influence", share=0.01, recipe="AdamW"),
        at_full="Ahead in all settings: by .10 to .42 on tanh, by .07 to .18 on ReLU, least at 1e-3.",
    ),
    claim(
        "share_removed",
        "fidelity of the twin above that of two-step, half removed, full batch with momentum",
        "ours",
        _ahead("twin", "two-step", share=0.5, recipe="momentum"),
    ),
    claim(
        "share_removed",
        "fidelity of the twin above that of restored influence, half removed",
        "ours",
        _ahead("twin", "restored influence", share=0.5),
        at_full="A refit is worth .02 to .08 on full batches with momentum and next to nothing after AdamW.",
    ),
)

# All thresholds of `best_answer` were set after one network of each recipe and size, none of them of the study.
BEST_ANSWER = (
    claim(
        "best_answer",
        "LDS of the stacked twins of three networks after 20 retrainings, {recipe}, n = {n}",
        "ours",
        _best_answer,
        by=("recipe", "n"),
        discussion="The target is of networks of 1,000 points and 128 hidden units. There five networks of each recipe "
        "have .938, .934 and, after AdamW, .865, which fails as it does on 200 points and 20 units. Retraining in "
        "another batch order agrees to .966: what is missing is not lost to noise but to linear models of the network. "
        "On 200 points a few networks leave the interval of the other two recipes wide.",
    ),
    claim(
        "best_answer",
        "LDS of the stacked twins of three networks after 20 retrainings above that of the best sum over points",
        "ours",
        _answer_gain((STARTED, AVERAGED), (SUM, 0)),
    ),
    claim(
        "best_answer",
        "LDS of the stacked twins of three networks after 20 retrainings above that of one twin",
        "ours",
        _answer_gain((STARTED, AVERAGED), (LINEAR, 0)),
    ),
    claim(
        "best_answer",
        "LDS of the network at the twin's parameters above that of the twin's own outputs",
        "ours",
        _answer_gain((NETWORK, 0), (LINEAR, 0)),
        at_full="Worth .002 to .014 without AdamW; with AdamW .02 on 200 points and −.02 on 1,000.",
    ),
    claim(
        "best_answer",
        "LDS that weights from 20 retrainings add to weights from 5",
        "ours",
        _answer_gain((STARTED, AVERAGED), (STARTED, 5)),
    ),
    claim(
        "best_answer",
        "LDS that the twin at the mean of 20 retrained networks adds to the stack",
        "ours",
        _answer_gain((AVERAGE, AVERAGED), (STARTED, AVERAGED)),
    ),
)

TWO = directions(2)

# Set before any cell was run, with one scratch network of the quick size in view.
SKETCHED_RESTORED = (
    claim(
        "sketched_restored",
        "LDS of the whole softmax block above that of two curvature directions a sample",
        "ours",
        _sketched_gain((BLOCK, 0, 0), (TWO, 0, 0)),
    ),
    claim(
        "sketched_restored",
        "LDS of two directions above that of one",
        "ours",
        _sketched_gain((TWO, 0, 0), (directions(1), 0, 0)),
    ),
    claim(
        "sketched_restored",
        "LDS of two directions sketched to k = 512 above that of TRAK at the same k with the ridge of the rule",
        "ours",
        _sketched_gain((TWO, 512, 1), (TRAK, 512, 0)),
    ),
    claim(
        "sketched_restored",
        "LDS that the mean of two sketches to k = 512 has above one",
        "ours",
        _sketched_gain((TWO, 512, 2), (TWO, 512, 1)),
    ),
    claim(
        "sketched_restored",
        "LDS of two directions through all layers above that through the last layer alone, no sketch",
        "ours",
        _sketched_gain((TWO, 0, 0), (of_layer("last layer alone"), 0, 0)),
    ),
    claim(
        "sketched_restored",
        "LDS of two directions through all layers above that through the first layer alone, no sketch",
        "ours",
        _sketched_gain((TWO, 0, 0), (of_layer("first layer alone"), 0, 0)),
    ),
    claim(
        "sketched_restored",
        "share of scores within 1.96 sd of the unsketched ones, {kind} sketch",
        "ours",
        _covered,
        by=("kind",),
    ),
)


def _module_gain(better: str, worse: str):
    """Fidelity of one answer minus that of another on the same removed sets."""

    def measure(rows: pd.DataFrame) -> Measured:
        return contrast(rows, "answer", better, worse, "fidelity", ["model", "n"], NETWORKS)

    return measure


# Set with one network of each model in view, somewhat larger than those of the quick size.
RESTORED_NETWORKS = (
    claim(
        "restored_networks",
        "fidelity of conjugate gradients above that of one sketch, share {share:g} removed",
        "ours",
        _module_gain(SOLVED, SKETCHED),
        by=("share",),
        at_full="Two networks in each of four settings leave every interval wide.",
    ),
    claim(
        "restored_networks",
        "fidelity of conjugate gradients above that of TRAK with the ridge of the rule, share {share:g} removed",
        "ours",
        _module_gain(SOLVED, RULED),
        by=("share",),
        at_full="Two networks in each of four settings leave every interval wide.",
    ),
    claim(
        "restored_networks",
        "fidelity of one sketch above that of TRAK with the ridge of the rule, share {share:g} removed",
        "ours",
        _module_gain(SKETCHED, RULED),
        by=("share",),
        at_full="Two networks in each of four settings leave every interval wide; a sketch to k = "
        "128 and 1,024 is coarse.",
    ),
)

# Set with one scratch network of the quick size in view, and the CNNs of the rivals.
LADDER_CNN = (
    claim(
        "lds_ladder_cnn",
        "LDS of the block twin above that of the best sum over points, CNN, half subsets",
        "ours",
        _price("twin, block", "sum over points, block"),
    ),
    claim(
        "lds_ladder_cnn",
        "LDS of two-step above that of the best sum over points, CNN, AdamW at 1e-3, half subsets",
        "ours",
        _knowing_the_order,
        at_full="Five networks: the interval begins just below the bound.",
    ),
    claim(
        "lds_ladder_cnn",
        "LDS that projection to k = n/2 costs a CNN at the ridge of the rule",
        "ours",
        _price("unit curvature", "projection"),
        at_full="It costs .14 to .28 after AdamW with half removed, and .04 after SGD with momentum, where "
        "no score of this kind has more than .21 and another batch order agrees to .20.",
    ),
    claim(
        "lds_ladder_cnn",
        "LDS that the ridge of the rule is worth to TRAK scores of a CNN at k = n/2",
        "ours",
        _price("projection", "no ridge"),
    ),
    claim(
        "lds_ladder_cnn",
        "LDS of the best sum over points above that of the released score, CNN",
        "ours",
        _price("sum over points, block", "as released"),
    ),
)

FINDINGS = (
    *LADDER_CNN,
    *RESTORED_NETWORKS,
    *SHARE_REMOVED,
    *BEST_ANSWER,
    *SKETCHED_RESTORED,
    claim(
        "lds_ladder",
        "LDS of the block twin above that of the best sum over points, half subsets",
        "ours",
        _price("twin, block", "sum over points, block"),
    ),
    claim(
        "lds_ladder",
        "LDS of the refitted block twin above that of its first Newton step",
        "ours",
        _price("twin, block", "group Newton, block"),
    ),
    claim(
        "lds_ladder",
        "LDS that the ridge of the rule is worth to TRAK scores at k = n/2",
        "ours",
        _price("projection", "no ridge"),
    ),
    claim(
        "lds_ladder",
        "LDS that projection to k = n/2 costs at the ridge of the rule",
        "ours",
        _price("unit curvature", "projection"),
        at_full="It costs .08 to .25 in each of nine settings, on quarter subsets of 1,000 points less than "
        "the bound (.084, .076 to .094).",
    ),
    claim(
        "lds_ladder",
        "|LDS predicted from the twin and ten retrainings − measured on other subsets|, seven scores",
        "ours",
        _prediction_gap("predicted"),
    ),
    claim(
        "lds_ladder",
        "Kendall τ of seven scores ranked by their LDS against the twin, no retraining, with their measured LDS",
        "ours",
        _order,
    ),
)
