"""Generalised linear models: leave-one-out of this project, statsmodels and pyinfluence against scikit-learn refits."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import typer

from simulations.benchmarks.rivals.environments import Environments
from simulations.benchmarks.rivals.exchange import Answer, Failure, ask
from simulations.benchmarks.rivals.tables import Row, table
from simulations.workloads.data import Problem, real_problem
from trak_theory import agreement

QUERIES, COUNTS_ROWS = 50, 1000
# problem → data, ridge
PROBLEMS = {"breast cancer, logistic, ridge 1": ("breast_cancer", 1.0), "randhie, Poisson, no ridge": ("randhie", 0.0)}
# method → environment (None: this one), program, settings, losses that it covers
METHODS = {
    "exact leave-one-out (ours)": (None, "ours.glm", {"method": "exact"}, ("logistic", "poisson")),
    "newton (ours)": (None, "ours.glm", {"method": "newton"}, ("logistic", "poisson")),
    "influence function (ours)": (None, "ours.glm", {"method": "influence"}, ("logistic", "poisson")),
    "one-step deletion (statsmodels)": (None, "statsmodels", {}, ("poisson",)),
    "influence functions (pyinfluence)": ("pyinfluence", "pyinfluence", {}, ("logistic",)),
}
REFITS = "n refits (scikit-learn)"
COLUMNS = ["problem", "method", "Kendall", "relative error", "CPU s", "reason"]


def measure(environments: Environments, *, seed: int, repeats: int) -> list[Row]:
    """Print how close every method comes to refitting without each point, and in what time; the rows."""
    rows: list[Row] = []
    for name, rng in zip(PROBLEMS, np.random.default_rng(seed).spawn(len(PROBLEMS)), strict=True):
        data, ridge = PROBLEMS[name]
        problem = real_problem(data, queries=QUERIES, ridge=ridge, rng=rng)
        rows += _on_problem(name, _shortened(problem), environments, repeats)
    typer.echo(
        f"influence on the linear output of {QUERIES} queries; Kendall and relative error (means over queries) "
        f"against refits to a tolerance of 1e-10; medians of {repeats} runs, fit counted, one thread\n"
    )
    typer.echo(table(rows, COLUMNS))
    return rows


def _shortened(problem: Problem) -> Problem:
    return replace(problem, features=problem.features[:COUNTS_ROWS], targets=problem.targets[:COUNTS_ROWS])


def _on_problem(name: str, problem: Problem, environments: Environments, repeats: int) -> list[Row]:
    arrays = {field: getattr(problem, field) for field in ("features", "targets", "ridge", "queries")}
    loss = {"loss": problem.loss}
    truth = ask(Path(sys.executable), "refits", arrays, loss)
    if isinstance(truth, Failure):
        raise RuntimeError(f"the refits failed: {truth.reason}")
    rows = [_row(name, REFITS, truth, truth)]
    for method, (environment, program, settings, losses) in METHODS.items():
        if problem.loss not in losses:
            continue
        python = Path(sys.executable) if environment is None else environments[environment]
        answer = ask(python, program, arrays, loss | settings, repeats=repeats + 1)
        rows.append(_row(name, method, truth, answer))
    return rows


def _row(name: str, method: str, truth: Answer, answer: Answer | Failure) -> Row:
    row: Row = {"problem": name, "method": method}
    if isinstance(answer, Failure):
        return {**row, "reason": answer.reason}
    quality = agreement(truth.arrays["influence"], answer.arrays["influence"])
    measured = {"Kendall": float(quality.kendall), "relative error": float(quality.relative_error)}
    return {
        **row,
        **measured,
        "CPU s": answer.timing.median,
        "MiB": answer.memory / 2**20,
        "versions": answer.named_versions,
    }
