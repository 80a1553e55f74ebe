"""AdamW: our two-step push, dattri-llm's AdamW-influence and bergson's MAGIC against retraining."""

from __future__ import annotations

import sys
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import typer
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.benchmarks.rivals.environments import Environments
from simulations.benchmarks.rivals.exchange import Failure, ask
from simulations.benchmarks.rivals.tables import Row, header, line
from simulations.workloads.training_runs import Setting, setting
from trak_theory import agreement
from trak_theory.numerics.estimate import mean
from trak_theory.trajectory import MLP, AdamW, Query, Run, loss_query, retrain_without

N, SIZE, STEPS, RATES = 200, 20, 60, (2e-3, 2e-2)
DECAY, HELD_OUT = 0.01, 200
MANY = 8  # queries: mean losses of as many parts of the held-out digits
# method → environment (None: this one), program, what it is told besides AdamW's settings
METHODS = {
    "two-step push (ours)": (None, "ours.trajectory", {"estimator": "two-step"}),
    "frozen push (ours)": (None, "ours.trajectory", {"estimator": "frozen-push"}),
    "first order (ours)": (None, "ours.trajectory", {"estimator": "first-order"}),
    "AdamW-influence (dattri-llm)": ("dattri-llm", "dattri_llm", {}),
    "MAGIC (bergson)": ("bergson", "bergson.magic", {}),
}
COLUMNS = [
    "learning rate",
    "queries",
    "method",
    "Spearman",
    "s.e.",
    "worst",
    "relative error",
    "CPU s",
    "MiB",
    "reason",
]


def measure(environments: Environments, *, seed: int, replicates: int) -> list[Row]:
    """Print Spearman with the effect of leaving each sample out of the whole run, the mean over queries; the rows."""
    typer.echo(
        f"AdamW, digits 64-16-10 tanh, n = {N}, |B| = {SIZE}, T = {STEPS}, weight decay {DECAY:g}; query: mean loss of "
        f"{HELD_OUT} held-out digits, or the mean losses of {MANY} parts of them; truth: {N} retrainings in double "
        f"precision, batches keep their denominator; {replicates} seeds\n"
    )
    typer.echo(header(COLUMNS))
    rows = []
    for rate, queries in product(RATES, (1, MANY)):
        cells = [_cell(environments, rate, queries, rng) for rng in np.random.default_rng(seed).spawn(replicates)]
        for method in METHODS:
            found = _summary([cell[method] for cell in cells])
            rows.append({"learning rate": rate, "queries": queries, "method": method, **found})
            typer.echo(line(rows[-1], COLUMNS))
    return rows


def _cell(environments: Environments, rate: float, queries: int, rng: Generator) -> dict[str, Row | Failure]:
    """One run and every method on it."""
    problem = setting("digits", n=N, rng=rng)
    optimizer = AdamW(rate, weight_decay=DECAY)
    run = problem.train(optimizer, size=SIZE, steps=STEPS, rng=rng)
    truth = retrain_without(run, np.arange(N)[:, None]).influence(mean_losses(problem.held_out, queries))
    adamw = {"lr": rate, "betas": optimizer.betas, "eps": optimizer.eps, "weight_decay": DECAY}
    arrays = arrays_of_run(problem, run)
    found: dict[str, Row | Failure] = {}
    for method, (name, program, options) in METHODS.items():
        python = Path(sys.executable) if name is None else environments[name]
        answer = ask(python, program, arrays, {**adamw, **options, "queries": queries})
        if isinstance(answer, Failure):
            found[method] = answer
            continue
        quality = agreement(truth, answer.arrays["influence"])
        found[method] = {
            "Spearman": float(quality.spearman),
            "relative error": float(quality.relative_error),
            "CPU s": answer.timing.median,
            "MiB": answer.memory / 2**20,
        }
    return found


def _summary(cells: list[Row | Failure]) -> Row:
    failures = [cell for cell in cells if isinstance(cell, Failure)]
    if failures:
        return {"reason": failures[0].reason}
    values: dict[str, Array] = {
        name: np.array([cell[name] for cell in cells if not isinstance(cell, Failure)])
        for name in ("Spearman", "relative error", "CPU s", "MiB")
    }
    spearman = mean(values["Spearman"])
    return {
        "Spearman": spearman.value,
        "s.e.": spearman.se,
        "worst": float(values["Spearman"].min()),
        **{name: float(np.median(values[name])) for name in ("relative error", "CPU s", "MiB")},
    }


def mean_losses(held_out: MLP, queries: int) -> Query:
    """The mean losses of `queries` parts of the held-out points, in their order."""
    parts = [loss_query(held_out, part, mean=True) for part in np.array_split(np.arange(held_out.n), queries)]
    return Query(
        lambda theta: np.stack([part.value(theta) for part in parts], -1),
        lambda theta: np.concatenate([part.slope(theta) for part in parts]),
    )


def arrays_of_run(problem: Setting[MLP], run: Run) -> dict[str, Array]:
    """The network at the start (weights (in, out)), the data, the batches (T, |B|)."""
    network = problem.network
    parts, at = [], 0
    for width, out in pairwise(network.widths):
        weight, bias = problem.start[at : at + width * out], problem.start[at + width * out : at + (width + 1) * out]
        parts += [weight.reshape(out, width).T, bias]
        at += (width + 1) * out
    return {
        **dict(zip(("first", "first_bias", "second", "second_bias"), parts, strict=True)),
        "inputs": network.features,
        "labels": network.labels,
        "query_inputs": problem.held_out.features,
        "query_labels": problem.held_out.labels,
        "batches": np.stack(run.batches),
    }
