"""Networks: TRAK, influence and EK-FAC of released packages and of this project, by LDS, time and memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.benchmarks.rivals.environments import Environments
from simulations.benchmarks.rivals.exchange import Answer, Failure, ask
from simulations.benchmarks.rivals.tables import Row, header, line
from simulations.digits_mlp import DigitsNetwork, datamodel_scores, digits_network, random_subsets
from simulations.ridge_rule import RECIPES

NETWORKS = ("full batch, momentum", "minibatch SGD", "AdamW")
SUBSETS, BATCH = 100, 100
COLUMNS = ["network", "method", "setting", "LDS", "s.e.", "CPU s", "MiB", "reason"]


@dataclass(frozen=True)
class Method:
    """A way to score: where it runs (None: here), its program and what it is told; own: it is this project's."""

    name: str
    setting: str
    environment: str | None
    program: str
    options: dict[str, Any]
    timed: bool = False  # repeated, for the comparison of time and memory

    @property
    def own(self) -> bool:
        return self.environment is None


def _ours(name: str, setting: str, method: str, timed: bool = False, **options: Any) -> Method:
    return Method(name, setting, None, "ours_network", {"method": method, **options}, timed)


def _traker(setting: str, k: int, half: bool, timed: bool = False) -> Method:
    options = {"k": k, "half": half, "lambda_reg": 0.0, "seed": 0, "batch": BATCH, "block": None}
    return Method("TRAK (traker)", setting, "traker", "traker", options, timed)


def _dattri(setting: str, regularization: float, timed: bool = False) -> Method:
    options = {"k": 512, "regularization": regularization, "seed": 0, "batch": BATCH}
    return Method("TRAK (dattri)", setting, "dattri", "dattri_trak", options, timed)


def _kronfluence(setting: str, damping: float | None) -> Method:
    return Method("EK-FAC (kronfluence)", setting, "kronfluence", "kronfluence", {"damping": damping, "batch": BATCH})


METHODS = (
    _ours("restored influence, softmax block (ours)", "ridge from the recipe", "block"),
    _ours("restored influence (ours)", "ridge from the recipe", "restored"),
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
        {"regularization": 0.01, "max_iter": 10, "batch": BATCH},
    ),
    _kronfluence("default: damping 1e-8", 1e-8),
    _kronfluence("heuristic damping (None)", None),
)


def measure(environments: Environments, *, seed: int, repeats: int) -> list[Row]:
    """Print the LDS of every method on every network; the rows. Timed methods run `repeats` + 1 times."""
    typer.echo(
        f"digits 64-128-10, n = 1000, LDS over {SUBSETS} half subsets from the same start, mean over 100 queries "
        f"± s.e. over them; processor time of one thread, medians of {repeats} runs (k = 512, first network) or one\n"
    )
    typer.echo(header(COLUMNS))
    rows: list[Row] = []
    for name, rng in zip(NETWORKS, np.random.default_rng(seed).spawn(len(NETWORKS)), strict=True):
        for row in _on_network(name, environments, rng, repeats if name == NETWORKS[0] else 0):
            typer.echo(line(row, COLUMNS))
            rows.append(row)
    return rows


def _on_network(name: str, environments: Environments, rng: Generator, repeats: int) -> Iterator[Row]:
    optimizer, fraction = RECIPES[name]
    training, choosing, retraining = rng.spawn(3)
    model = digits_network(optimizer, rng=training)
    n = len(model.labels)
    subsets = random_subsets(n, round(fraction * n), SUBSETS, choosing)
    outputs = model.retrain(subsets, retraining)
    for method in METHODS:
        answer = _answer(method, environments, model, name, repeats if method.timed else 0)
        row: Row = {"network": name, "method": method.name, "setting": method.setting}
        if isinstance(answer, Failure):
            yield {**row, "reason": answer.reason}
            continue
        lds = datamodel_scores(answer.arrays["scores"], subsets, outputs)
        measured = {"LDS": float(lds.mean()), "s.e.": float(lds.std(ddof=1) / np.sqrt(lds.size))}
        cost = {"CPU s": answer.timing.median, "MiB": answer.memory / 2**20, "timed": method.timed and repeats > 0}
        yield {**row, **measured, **cost, "versions": answer.named_versions}


def _answer(
    method: Method, environments: Environments, model: DigitsNetwork, recipe: str, repeats: int
) -> Answer | Failure:
    python = Path(sys.executable) if method.environment is None else environments[method.environment]
    options = method.options | ({"recipe": recipe} if method.own else {})
    return ask(python, method.program, arrays_of(model), options, repeats=repeats + 1)


def arrays_of(model: DigitsNetwork) -> dict[str, Array]:
    """Weights, data and, after Adam, second moments `moment_…` of a network, as the runners read them."""
    names = ("first", "first_bias", "second", "second_bias")
    moment = model.second_moment
    return {
        **dict(zip(names, model.network.parts, strict=True)),
        **({} if moment is None else {f"moment_{name}": getattr(moment, name) for name in names}),
        "inputs": model.inputs,
        "labels": model.labels,
        "query_inputs": model.query_inputs,
        "query_labels": model.query_labels,
    }
