"""Networks: TRAK, influence and EK-FAC of released packages and of this project, by LDS, time and memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy import ndarray as Array

from simulations.benchmarks.rivals.cases import (
    CASES,
    CNN_QUERIES,
    CNN_STEPS,
    HALF,
    HUNDREDTH,
    QUERIES,
    SUBSETS,
    Case,
    N,
    Truth,
)
from simulations.benchmarks.rivals.environments import Environments
from simulations.benchmarks.rivals.exchange import Answer, Failure, ask
from simulations.benchmarks.rivals.paired import differences
from simulations.benchmarks.rivals.tables import Row, header, line, table
from trak_theory.numerics.estimate import mean
from trak_theory.retraining import fidelity

BATCH = 100
LDS = {HALF: ("LDS", "s.e."), HUNDREDTH: ("LDS, 1 %", "s.e., 1 %")}  # columns of the score at each share removed
COLUMNS = ["network", "method", "setting", *LDS[HALF], *LDS[HUNDREDTH], "CPU s", "MiB", "reason"]
DIGITS = tuple(name for name in CASES if not name.startswith("CNN"))
PAIRED = ["network", "LDS of", "less that of", "difference", "s.e."]


@dataclass(frozen=True)
class Method:
    """A way to score: where it runs (None: here), its program ("": that of the network) and what it is told."""

    name: str
    setting: str
    environment: str | None
    program: str
    options: dict[str, Any]
    timed: bool = False  # repeated, for the comparison of time and memory
    predicts: bool = False  # outputs after training on each subset, not scores to be summed
    told_share: bool = False  # of the points that the truth removes, which a ridge depends on
    on: tuple[str, ...] = tuple(CASES)


def _ours(name: str, setting: str, method: str, timed: bool = False, predicts: bool = False, **options: Any) -> Method:
    return Method(name, setting, None, "", {"method": method, **options}, timed, predicts, told_share=True)


def _restored(name: str, setting: str, cg: bool = False, **options: Any) -> Method:
    known = {"cg": cg, **options}
    return Method(f"restored influence, {name} (ours)", setting, None, "ours.restored", known, told_share=True)


def _along(name: str, estimator: str, on: tuple[str, ...]) -> Method:
    return Method(name, "recorded run", None, "ours.run", {"estimator": estimator}, on=on)


def _traker(setting: str, k: int, half: bool, timed: bool = False) -> Method:
    options = {"k": k, "half": half, "lambda_reg": 0.0, "seed": 0, "batch": BATCH, "block": None}
    return Method("TRAK (traker)", setting, "traker", "traker", options, timed)


def _dattri(setting: str, regularization: float, timed: bool = False) -> Method:
    options = {"k": 512, "regularization": regularization, "seed": 0, "batch": BATCH}
    return Method("TRAK (dattri)", setting, "dattri", "dattri_trak", options, timed)


def _kronfluence(setting: str, damping: float | None) -> Method:
    return Method("EK-FAC (kronfluence)", setting, "kronfluence", "kronfluence", {"damping": damping, "batch": BATCH})


METHODS = (
    _ours("twin refitted, softmax block (ours)", "rank 1500", "twin", predicts=True, k=1500),
    _along("two-step push (ours)", "two-step", ("AdamW",)),
    _along("first order of the trajectory (ours)", "first-order", DIGITS),
    _ours("restored influence, softmax block (ours)", "ridge from the recipe", "block"),
    _ours("restored influence (ours)", "ridge from the recipe", "restored"),
    _restored("2 directions", "k = 512", k=512),
    _restored("2 directions", "k = 512, two sketches", k=512, ensemble=2),
    _restored("2 directions", "no sketch", k=None),
    _restored("2 directions", "3 steps of conjugate gradients", cg=True, k=512, steps=3),
    _restored("all directions", "3 steps of conjugate gradients", cg=True, k=512, steps=3, directions=10),
    _ours("TRAK (ours)", "k = 512, ridge from the recipe", "trak at the rule", k=512, seed=0),
    _ours("TRAK (ours)", "k = 512, μ = 0", "trak", timed=True, k=512, seed=0, batch=BATCH),
    _traker("default: k = 2048, half precision", 2048, True),
    _traker("k = 512, half precision", 512, True),
    _traker("k = 512, single precision", 512, False, timed=True),
    _dattri("default: k = 512", 0.0, timed=True),
    _dattri("k = 512, regularization 0.01", 0.01),
    Method(
        "influence by conjugate gradients (dattri)",
        "as in its examples: 0.01, 10 steps",
        "dattri",
        "dattri_if",
        {"regularization": 0.01, "max_iter": 10, "batch": 2},
    ),
    _kronfluence("default: damping 1e-8", 1e-8),
    _kronfluence("heuristic damping (None)", None),
)


def named(text: str) -> list[Method]:
    """The methods whose name contains `text`."""
    return [method for method in METHODS if text in method.name]


def measure(
    environments: Environments, folder: Path, *, seed: int, repeats: int, methods: str = "", on: Sequence[str] = ()
) -> list[Row]:
    """Print the LDS of every method on every network; the rows. Timed methods run `repeats` + 1 times.

    Then the paired differences of this project's methods, each less the next.

    methods: only those whose name contains it; on: only these networks, if any are named. Retrained
    convolutional networks are kept in `folder`.
    """
    typer.echo(
        f"digits 64-128-10, {QUERIES} queries, and a CNN (three convolutions of stride 2, GroupNorm, GELU; {CNN_STEPS} "
        f"steps) on MNIST, {CNN_QUERIES} queries; n = {N}, LDS over {SUBSETS} half subsets from the same start, and "
        f"over {SUBSETS} removals of 1 % in the order of its own batches, mean over queries ± s.e. over them; "
        f"processor time of one thread, medians of {repeats} runs (k = 512, first network) or one\n"
    )
    typer.echo(header(COLUMNS))
    rows: list[Row] = []
    paired: list[Row] = []
    generators = np.random.default_rng(seed).spawn(len(CASES))
    for place, (name, rng) in enumerate(zip(CASES, generators, strict=True)):
        if on and name not in on:
            continue
        case, predictions = CASES[name](folder, rng), dict[str, Array]()
        asked = [method for method in named(methods) if name in method.on]
        for row, predicted in _on_network(case, asked, environments, 0 if place else repeats):
            rows.append({"network": name, **row})
            typer.echo(line(rows[-1], COLUMNS))
            if predicted is not None:
                predictions[f"{row['method']}, {row['setting']}".replace(" (ours)", "")] = predicted
        paired += [{"network": name, **row} for row in differences(predictions, case.truths[HALF].outputs)]
    if paired:
        typer.echo("\npaired differences of LDS, ± s.e. over subsets and queries\n")
        typer.echo(table(paired, PAIRED))
    return rows


def _on_network(
    case: Case, methods: list[Method], environments: Environments, repeats: int
) -> Iterator[tuple[Row, Array | None]]:
    """The row of each method, and what this project's predict for the half subsets (B, q)."""
    ceilings = {
        share: _score(truth.again, truth, share) for share, truth in case.truths.items() if truth.again is not None
    }
    if ceilings:
        yield {"method": "retraining", "setting": "another batch order", **ceilings[HALF], **ceilings[HUNDREDTH]}, None
    for method in methods:
        row: Row = {"method": method.name, "setting": method.setting}
        measured = _measured(method, environments, case, repeats if method.timed else 0)
        if isinstance(measured, Failure):
            yield {**row, "reason": measured.reason}, None
            continue
        cost, predicted = measured
        scores = [_score(found, case.truths[share], share) for share, found in predicted.items()]
        own = None if method.environment else predicted[HALF]
        yield {**row, **scores[0], **scores[1], **cost, "timed": method.timed and repeats > 0}, own


def _measured(
    method: Method, environments: Environments, case: Case, repeats: int
) -> tuple[Row, dict[float, Array]] | Failure:
    """What the first answer cost, and predictions (B, q) at every share removed."""
    answers: list[Answer] = []
    predicted: dict[float, Array] = {}
    for share, truth in case.truths.items():
        if not answers or method.told_share:
            answer = _answer(method, environments, case, truth, repeats)
            if isinstance(answer, Failure):
                return answer
            answers.append(answer)
        predicted[share] = _predicted(answers[-1].arrays, truth.subsets)
        if not np.isfinite(predicted[share]).all():
            return Failure("its scores are not all finite")
    first = answers[0]
    cost = {"CPU s": first.timing.median, "MiB": first.memory / 2**20, "versions": first.named_versions}
    return cost, predicted


def _score(predicted: Array, truth: Truth, share: float) -> Row:
    found = mean(fidelity(predicted, truth.outputs).per_query)
    return dict(zip(LDS[share], (found.value, found.se), strict=True))


def _predicted(found: dict[str, Array], subsets: Array) -> Array:
    """What a method predicts for each subset (B, q): its outputs, or the sums of its scores."""
    return found["outputs"] if "outputs" in found else found["scores"][subsets].sum(1)


def _answer(method: Method, environments: Environments, case: Case, truth: Truth, repeats: int) -> Answer | Failure:
    if method.environment is not None:
        return ask(environments[method.environment], method.program, case.arrays, method.options, repeats=repeats + 1)
    arrays = case.arrays | ({"subsets": truth.subsets} if method.predicts else {})
    share = {"fraction": truth.fraction} if method.told_share else {}
    options = {**case.options, **share, **method.options}
    return ask(Path(sys.executable), method.program or case.program, arrays, options, repeats=repeats + 1)
