"""AdamW: our two-step push, dattri-llm's AdamW-influence and bergson's MAGIC against retraining."""

from __future__ import annotations

import sys
from itertools import pairwise
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
from trak_theory.trajectory import MLP, AdamW, Run, retrain_without

N, SIZE, STEPS, RATES = 200, 20, 60, (2e-3, 2e-2)
DECAY = 0.01
# method → environment (None: this one), program, what it is told besides AdamW's settings
METHODS = {
    "two-step push (ours)": (None, "ours_trajectory", {"estimator": "two-step"}),
    "frozen push (ours)": (None, "ours_trajectory", {"estimator": "frozen-push"}),
    "first order (ours)": (None, "ours_trajectory", {"estimator": "first-order"}),
    "AdamW-influence (dattri-llm)": ("dattri-llm", "dattri_llm", {}),
    "MAGIC (bergson)": ("bergson", "bergson.magic", {}),
}
COLUMNS = ["learning rate", "method", "Spearman", "s.e.", "worst", "relative error", "CPU s", "MiB", "reason"]


def measure(environments: Environments, *, seed: int, replicates: int) -> list[Row]:
    """Print Spearman with the effect of leaving each sample out of the whole run; the rows, one per rate and method."""
    typer.echo(
        f"AdamW, digits 64-16-10 tanh, n = {N}, |B| = {SIZE}, T = {STEPS}, weight decay {DECAY:g}; query: mean loss of "
        f"200 held-out digits; truth: {N} retrainings in double precision, batches keep their denominator; "
        f"{replicates} seeds\n"
    )
    typer.echo(header(COLUMNS))
    rows = []
    for rate in RATES:
        cells = [_cell(environments, rate, rng) for rng in np.random.default_rng(seed).spawn(replicates)]
        for method in METHODS:
            rows.append(_summary(rate, method, [cell[method] for cell in cells]))
            typer.echo(line(rows[-1], COLUMNS))
    return rows


def _cell(environments: Environments, rate: float, rng: Generator) -> dict[str, Row | Failure]:
    """One run and every method on it."""
    problem = setting("digits", n=N, rng=rng)
    optimizer = AdamW(rate, weight_decay=DECAY)
    run = problem.train(optimizer, size=SIZE, steps=STEPS, rng=rng)
    truth = retrain_without(run, np.arange(N)[:, None]).influence(problem.query)
    adamw = {"lr": rate, "betas": optimizer.betas, "eps": optimizer.eps, "weight_decay": DECAY}
    found: dict[str, Row | Failure] = {}
    for method, (name, program, options) in METHODS.items():
        python = Path(sys.executable) if name is None else environments[name]
        answer = ask(python, program, arrays_of_run(problem, run), adamw | options)
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


def _summary(rate: float, method: str, cells: list[Row | Failure]) -> Row:
    failures = [cell for cell in cells if isinstance(cell, Failure)]
    if failures:
        return {"learning rate": rate, "method": method, "reason": failures[0].reason}
    values: dict[str, Array] = {
        name: np.array([cell[name] for cell in cells if not isinstance(cell, Failure)])
        for name in ("Spearman", "relative error", "CPU s", "MiB")
    }
    spearman = mean(values["Spearman"])
    return {
        "learning rate": rate,
        "method": method,
        "Spearman": spearman.value,
        "s.e.": spearman.se,
        "worst": float(values["Spearman"].min()),
        **{name: float(np.median(values[name])) for name in ("relative error", "CPU s", "MiB")},
    }


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
