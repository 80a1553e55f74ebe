"""Verdict, bound and estimators by family, and which promises hold at the size that is stored.

Shares of runs carry Clopper and Pearson's 95 % interval, means over runs Student's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from simulations.findings.finding import Finding
from simulations.findings.measures import Measured, contrast, sample, share
from simulations.findings.trajectory import FINDINGS, VERDICTS, Trial, coverage, judged, verdict_trials
from simulations.ledger.judge import judged_lines
from simulations.studies.trajectory.proxy import AUDIT, ESTIMATORS

FREE: dict[str, Trial] = {
    "trust that is deserved": "precision",
    "too optimistic": "optimistic",
    "abstains": "abstaining",
    "right": "right",
}
DESERVED = "trust / ranks only / do not trust"
AUDITED: dict[str, Trial] = {name: kind for name, kind in FREE.items() if kind != "abstaining"}
BOUNDS = {"coverage": "free bound covers", "calibrated_coverage": "calibrated on nine retrainings"}
RUN = ["family", "learning_rate", "replicate"]
QUALITIES = [
    "mean Spearman",
    "frozen-push − two-step",
    "worst Spearman",
    "most that frozen-push loses in a run",
    "median relative error",
    "largest relative error",
]
Cells = Callable[[pd.DataFrame], list[str]]


def tables(rows: pd.DataFrame) -> str:
    """Markdown: promises, then verdict, bound and estimators by family, families never calibrated on first."""
    promises = [entry for finding in FINDINGS if finding.study == "proxy" for entry in finding.judge(rows)]
    groups = {"families never calibrated on": judged(rows), "calibrated families": judged(rows, left_out=False)}
    parts = [f"### Promises, {len(judged(rows))} runs of families never calibrated on", "", *judged_lines(promises)]
    for name, runs in groups.items():
        parts += _section(f"Free verdict, {name}", [f"deserve {DESERVED}", *FREE], runs, _free)
        audit = f"Verdict with {AUDIT} retrainings, {name}"
        parts += _section(audit, list(AUDITED), runs, lambda own: _trials(own, "audited_label", AUDITED))
        heads = [head for bound in BOUNDS.values() for head in (bound, ".90 ± .03")]
        parts += _section(f"90 % bound, {name}", heads, runs, _coverages)
        parts += _lengths(name, runs)
    parts += _misplaced(pd.concat(list(groups.values())))
    adamw = rows[(rows["optimizer"] == "adamw") & rows["estimator"].notna()]
    for name, runs in groups.items():
        own = adamw[adamw["family"].isin(runs["family"])]
        parts += [
            *_heading(f"{' / '.join(ESTIMATORS)}, AdamW, {name}", ["runs", *QUALITIES]),
            *_lines(own, _estimators),
            _line("**all**", _estimators(own)),
        ]
    return "\n".join(parts)


def _section(title: str, heads: list[str], runs: pd.DataFrame, cells: Cells) -> list[str]:
    """A line a family; then all, those with kinks, and those without."""
    kinked = runs["family"].str.contains("relu")
    wholes = {"**all**": runs, "**ReLU, leaky ReLU**": runs[kinked], "**all others**": runs[~kinked]}
    totals = [_line(name, [str(len(own)), *cells(own)]) for name, own in wholes.items() if len(own)]
    return [*_heading(title, ["runs", *heads]), *_lines(runs, lambda own: [str(len(own)), *cells(own)]), *totals]


def _free(runs: pd.DataFrame) -> list[str]:
    counts = " / ".join(str((runs["true_label"] == label).sum()) for label in DESERVED.split(" / "))
    return [counts, *_trials(runs, "free_label", FREE)]


def _trials(runs: pd.DataFrame, column: str, kinds: dict[str, Trial]) -> list[str]:
    return [_share(verdict_trials(runs, column, kind)) for kind in kinds.values()]


def _share(trials: pd.Series) -> str:
    return f"{trials.sum()} of {len(trials)}: {_number(share(trials, VERDICTS))}" if len(trials) else "none"


def _coverages(runs: pd.DataFrame) -> list[str]:
    return [text for column in BOUNDS for text in _coverage(runs, column)]


def _coverage(runs: pd.DataFrame, column: str) -> tuple[str, str]:
    """Coverage, and whether it lies in the band that is promised of every family."""
    promise = Finding("proxy", "coverage", "ours", "=", 0.9, lambda own: coverage(own, column), 0.03)
    (entry,) = promise.judge(runs)
    return _number(entry.found), entry.verdict


def _lengths(name: str, runs: pd.DataFrame) -> list[str]:
    """The free verdict and bound by optimiser and number of steps."""
    kinds: dict[str, Trial] = {head: FREE[head] for head in ("trust that is deserved", "too optimistic")}
    lines = [
        _line(
            f"{optimizer}, {steps}",
            [str(len(own)), *_trials(own, "free_label", kinds), _number(sample(own["coverage"], VERDICTS))],
        )
        for (optimizer, steps), own in runs.groupby(["optimizer", "steps"])
    ]
    heads = ["runs", *kinds, BOUNDS["coverage"]]
    return [*_heading(f"Free verdict and bound by length, {name}", heads, "optimiser, steps"), *lines]


def _misplaced(runs: pd.DataFrame) -> list[str]:
    """The runs that were called trust, for free or after an audit, and do not deserve it."""
    said = (runs[["free_label", "audited_label"]] == "trust").any(axis=1)
    wrong = runs[said & (runs["true_label"] != "trust")]
    heads = ["optimizer", "learning_rate", "steps", "batch", "free_label", "audited_label", "true_label"]
    numbers = ["defect", "query_defect", "spearman", "relative_error", "audited_rank", "audited_error", "coverage"]
    lines = [
        _line(run["family"], [*(str(run[head]) for head in heads), *(f"{run[number]:.2f}" for number in numbers)])
        for _, run in wrong.iterrows()
    ]
    return [*_heading("Runs called trust that do not deserve it, all families", [*heads, *numbers]), *lines]


def _estimators(rows: pd.DataFrame) -> list[str]:
    runs = rows.set_index([*RUN, "estimator"])[["spearman", "relative_error"]].unstack()
    rank, error = (runs[value][list(ESTIMATORS)] for value in ("spearman", "relative_error"))
    *others, frozen = ESTIMATORS
    gain = contrast(rows, "estimator", frozen, "two-step", "spearman", ["family", "learning_rate"], VERDICTS)
    lost = (rank[others].max(axis=1) - rank[frozen]).max()
    return [
        str(len(runs)),
        _each(rank.mean(), ".3f"),
        _number(gain),
        _each(rank.min(), ".2f"),
        f"{lost:.3f}",
        _each(error.median(), ".2f"),
        _each(error.max(), ".2g"),
    ]


def _lines(rows: pd.DataFrame, cells: Cells) -> Iterator[str]:
    return (_line(str(name), cells(own)) for name, own in rows.groupby("family", sort=False))


def _heading(title: str, heads: list[str], of: str = "family") -> list[str]:
    return ["", f"### {title}", "", _line(of, heads), "|---" * (len(heads) + 1) + "|"]


def _line(name: str, cells: list[str]) -> str:
    return f"| {' | '.join([name, *cells])} |"


def _number(found: Measured) -> str:
    interval = f"{found.low:.3f} to {found.high:.3f}" if np.isfinite(found.low) else "no interval from one"
    return f"{found.value:.3f} ({interval})"


def _each(values: pd.Series, digits: str) -> str:
    return " / ".join(format(value, digits) for value in values)
