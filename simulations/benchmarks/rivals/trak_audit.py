"""Scores of the released traker and dattri against the law of their projection, which has not seen them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import typer
from numpy import ndarray as Array

from simulations.benchmarks.rivals.cases import arrays_of
from simulations.benchmarks.rivals.environments import Environments
from simulations.benchmarks.rivals.exchange import Failure, ask
from simulations.benchmarks.rivals.tables import Row, table
from simulations.studies.practice.audit_digits import RECIPE
from simulations.workloads.digits_mlp import digits_network
from trak_theory import Linearization, agreement
from trak_theory.auditing.audit import Audit, audit
from trak_theory.auditing.measures import check_scores
from trak_theory.retraining.restored import restored_influence

KENDALL_GATE, PEARSON_GATE = 0.015, 0.02
OTHER_PACKAGE = {"traker": "dattri", "dattri": "traker"}
BATCH = 100
COLUMNS = [
    "package",
    "precision",
    "k",
    "parameter",
    "γ",
    "Kendall predicted",
    "measured",
    "difference",
    "Pearson predicted",
    "Pearson measured",
    "Pearson difference",
    "coverage",
    "within gates",
    "reason",
]
CONTROL = ["package", "k", "μ as if by", "Kendall predicted", "measured", "difference", "Pearson difference", "refused"]


@dataclass(frozen=True)
class Setting:
    """A package at projected dimension k and its own ridge parameter."""

    package: str
    k: int
    value: float
    half: bool = False

    @property
    def program(self) -> str:
        return {"traker": "traker", "dattri": "dattri_trak"}[self.package]

    def options(self, seed: int) -> dict[str, Any]:
        shared = {"k": self.k, "seed": seed, "batch": BATCH}
        if self.package == "dattri":
            return {**shared, "regularization": self.value}
        # One block of projected dimensions is not enough for traker: it frees it before the queries come.
        block = self.k // 2 if self.k <= 100 else None
        return {**shared, "lambda_reg": self.value, "half": self.half, "block": block}


SINGLE = (
    Setting("traker", 64, 0.0),
    Setting("traker", 256, 0.0),
    Setting("traker", 512, 0.0),
    Setting("traker", 2048, 1.0),
    Setting("dattri", 64, 0.0),
    Setting("dattri", 256, 0.0),
    Setting("dattri", 512, 0.0),
    Setting("dattri", 512, 0.01),
    Setting("dattri", 2048, 0.01),
)
HALF = (Setting("traker", 256, 0.0, half=True), Setting("traker", 512, 0.0, half=True))
DEFAULT = Setting("traker", 2048, 0.0, half=True)


def measure(environments: Environments, *, seed: int, projections: int) -> list[Row]:
    """Print the audit of the released packages; its rows."""
    model = digits_network(rng=np.random.default_rng(seed))
    lin, arrays = model.margin_linearization(), arrays_of(model)
    rows: list[Row] = []
    typer.echo(
        f"Scores against the unprojected unit-curvature kernel at γ(k, μ): digits 64-128-10, n = {len(lin.features)}, "
        f"p = {lin.features.shape[1]}, {len(lin.queries)} queries; means over queries and {projections} projections\n"
    )
    for setting in (*SINGLE, *HALF):
        rows += list(_examined(setting, environments, lin, arrays, projections))
    typer.echo(table([row for row in rows if row["rung"] != "wrong unit"], COLUMNS))
    typer.echo("\nNegative control, the ridge read in the unit of the other package:\n")
    typer.echo(table([row for row in rows if row["rung"] == "wrong unit"], CONTROL))
    rows += _default(environments, lin, arrays)
    return rows


def failed_gates(rows: list[Row]) -> list[str]:
    """Gates that failed, in words; empty if all hold."""
    found = []
    for row in rows:
        verdicts = {name: row[name] for name in ("within gates", "refused", "named") if name in row}
        if row.get("reason") or not all(verdicts.values()):
            found.append(f"{row['package']}, k = {row['k']}, {row['rung']}: {row.get('reason') or verdicts}")
    return found


def _examined(
    setting: Setting, environments: Environments, lin: Linearization, arrays: dict[str, Array], projections: int
) -> Iterator[Row]:
    scores = _scores(setting, environments, arrays, projections)
    if isinstance(scores, Failure):
        yield {"rung": "failed", "package": setting.package, "k": setting.k, "reason": scores.reason}
        return
    row = compared(setting, audited(setting, lin, setting.package), scores)
    if setting.half:
        yield {**row, "rung": "half precision"}
        return
    yield {**row, "rung": "single precision", "within gates": within_gates(row)}
    if setting.value > 0:
        other = OTHER_PACKAGE[setting.package]
        wrong = compared(setting, audited(setting, lin, other), scores)
        yield {**wrong, "rung": "wrong unit", "μ as if by": other, "refused": not within_gates(wrong)}


def within_gates(row: Row) -> bool:
    return bool(abs(row["difference"]) <= KENDALL_GATE and abs(row["Pearson difference"]) <= PEARSON_GATE)


def _scores(
    setting: Setting, environments: Environments, arrays: dict[str, Array], projections: int
) -> list[Array] | Failure:
    found = []
    for seed in range(projections):
        answer = ask(environments[setting.package], setting.program, arrays, setting.options(seed))
        if isinstance(answer, Failure):
            return answer
        found.append(answer.arrays["scores"])
    return found


def audited(setting: Setting, lin: Linearization, package: str) -> Audit:
    return audit(
        lin.features,
        lin.queries,
        lin.residual,
        curvature=lin.curvature,
        k=setting.k,
        ridge=setting.value,
        package=package,
        recipe=RECIPE,
        fraction=0.5,
    )


def compared(setting: Setting, found: Audit, scores: list[Array]) -> Row:
    """The law's prediction against scores; raises where the audit found no law."""
    if found.mean is None or found.sd is None or found.projection_loss is None:
        raise ValueError(f"no law applies to k = {setting.k} with ridge {setting.value:g}: {found.warnings}")
    law = found.projection_loss
    checks = [check_scores(each, found.mean, found.sd, law["kendall"]) for each in scores]
    # A check has no Kendall and no Pearson where the scores point against the law: NaN, which is outside all gates.
    kendall, pearson, coverage = (
        float(np.mean([check[name] if check.get(name) is not None else np.nan for check in checks]))
        for name in ("kendall", "pearson", "coverage")
    )
    return {
        "package": setting.package,
        "precision": "half" if setting.half else "single",
        "k": setting.k,
        "parameter": f"{found.setting['parameter']} = {setting.value:g}",
        "γ": found.implicit_ridge,
        "Kendall predicted": law["kendall"],
        "measured": kendall,
        "difference": law["kendall"] - kendall,
        "Pearson predicted": law["pearson"],
        "Pearson measured": pearson,
        "Pearson difference": law["pearson"] - pearson,
        "coverage": coverage,
    }


def _default(environments: Environments, lin: Linearization, arrays: dict[str, Array]) -> list[Row]:
    """traker as it comes: the warning, and what its scores are worth before and after the advice is taken."""
    found = audited(DEFAULT, lin, "traker")
    typer.echo(f"\ntraker's defaults (k = {DEFAULT.k}, lambda_reg = 0, half precision), n = {len(lin.features)}:\n")
    for warning in found.warnings:
        typer.echo(f"> {warning}")
    reference = restored_influence(lin, RECIPE, fraction=0.5)
    advised = Setting("traker", DEFAULT.k, float(found.recommendation["rule_value"]))
    predicted = audited(advised, lin, "traker").recommendation["present_kendall"]
    rows = []
    for setting, expected in ((DEFAULT, None), (Setting("traker", DEFAULT.k, 0.0), None), (advised, predicted)):
        scores = _scores(setting, environments, arrays, 1)
        row: Row = {
            "package": "traker",
            "precision": "half" if setting.half else "single",
            "k": setting.k,
            "parameter": f"lambda_reg = {setting.value:.4g}",
            "rung": "default and advice",
            "Kendall predicted": expected,
        }
        if isinstance(scores, Failure):
            rows.append({**row, "reason": scores.reason})
        else:
            rows.append({**row, "measured": float(np.mean([agreement(reference, each).kendall for each in scores]))})
    typer.echo("\nKendall with restored influence (curvature kept, no projection), a fixed reference:\n")
    typer.echo(table(rows, ["precision", "k", "parameter", "Kendall predicted", "measured", "reason"]))
    named = any("rounding noise" in warning for warning in found.warnings)
    return [*rows, {"package": "traker", "k": DEFAULT.k, "rung": "warning", "named": named}]
