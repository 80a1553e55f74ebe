"""`python -m simulations.benchmarks rivals`: this project beside released packages, in one run on one machine."""

from __future__ import annotations

from enum import StrEnum
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from threadpoolctl import threadpool_limits

from simulations.benchmarks.rivals import advice, glm, networks, trajectory, trak_audit
from simulations.benchmarks.rivals.cases import CASES
from simulations.benchmarks.rivals.environments import RIVALS, Environments, prepare
from simulations.benchmarks.rivals.exchange import Failure
from simulations.benchmarks.rivals.tables import Row, table
from simulations.benchmarks.timing import machine


class Part(StrEnum):
    """A comparison."""

    AUDIT = "audit"
    ADVICE = "advice"
    GLM = "glm"
    NETWORK = "network"
    TRAJECTORY = "trajectory"


# Which rivals a part asks; those of the part network are in its methods.
ASKED = {
    Part.AUDIT: ("traker", "dattri"),
    Part.ADVICE: ("traker", "dattri", "bergson"),
    Part.GLM: ("pyinfluence",),
    Part.TRAJECTORY: ("dattri-llm", "bergson"),
}
FOLDER_VARIABLE = "TRAK_THEORY_RIVALS"


def main(
    parts: Annotated[
        list[Part] | None, typer.Argument(metavar="PART…", help="audit, advice, glm, network, trajectory; all.")
    ] = None,
    environments: Annotated[
        Path, typer.Option(envvar=FOLDER_VARIABLE, help="Folder of the rivals' virtual environments (7 GB).")
    ] = Path("~/.cache/trak-theory/rivals"),
    out: Annotated[Path, typer.Option(help="Folder of the tables (.csv).")] = Path("results/rivals"),
    repeats: Annotated[int, typer.Option(help="Counted runs where time is compared.", min=1)] = 3,
    replicates: Annotated[
        int, typer.Option(help="Seeds of the trajectory part, projections of the audit, networks of the advice.", min=1)
    ] = 5,
    seed: Annotated[int, typer.Option(help="Seed of data and networks.")] = 0,
    methods: Annotated[str, typer.Option(help="Part network: only methods whose name contains this.")] = "",
    on: Annotated[list[str] | None, typer.Option(help=f"Part network: {'; '.join(CASES)}; all.")] = None,
) -> None:
    """This project beside traker, dattri, kronfluence, statsmodels, pyinfluence, dattri-llm and bergson.

    Each rival runs in a virtual environment of its own with pinned versions, made on first use; one that does not
    install or run is reported in its row. With --methods or --on, rows of an earlier table in OUT that are not measured
    again stay in it. Exit status 1 where a gate of the audit fails.
    """
    chosen = parts or list(Part)
    if Part.NETWORK in chosen and find_spec("torch") is None:
        raise typer.BadParameter("the part network trains CNNs: pip install 'trak-theory[torch]', or name other parts")
    if unknown := set(on or []) - set(CASES):
        raise typer.BadParameter(f"no network {', '.join(sorted(unknown))}; there are {'; '.join(CASES)}")
    names = sorted({name for part in chosen for name in _asked(part, methods)})
    typer.echo(f"environments in {environments}: what is not there is installed now, some minutes each", err=True)
    found = prepare(environments, [RIVALS[name] for name in names])
    typer.echo(f"{machine()}; scikit-learn {version('scikit-learn')}, statsmodels {version('statsmodels')}\n")
    typer.echo(table(_installed(found), ["rival", "requirements", "installed", "reason"]))
    out.mkdir(parents=True, exist_ok=True)
    failures: list[str] = []
    with threadpool_limits(1):
        for part in chosen:
            typer.echo(f"\n## {part}\n")
            rows = _measured(
                part, found, out, seed=seed, repeats=repeats, replicates=replicates, methods=methods, on=on or []
            )
            measured = pd.DataFrame(rows)
            if part is Part.NETWORK and (methods or on):
                measured = _beside(measured, out / f"{part}.csv")
            measured.to_csv(out / f"{part}.csv", index=False)
            failures += trak_audit.failed_gates(rows) if part is Part.AUDIT else []
    typer.echo(f"\ntables in {out}; the figures: python -m paper_figures.rivals {out}")
    for failure in failures:
        typer.echo(f"gate: {failure}", err=True)
    raise typer.Exit(int(bool(failures)))


def _beside(measured: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The rows measured, then those of an earlier table for the networks and methods that were not asked this time."""
    if not path.exists():
        return measured
    return pd.concat([measured, pd.read_csv(path)]).drop_duplicates(["network", "method", "setting"])


def _asked(part: Part, methods: str) -> set[str]:
    if part is not Part.NETWORK:
        return set(ASKED[part])
    return {method.environment for method in networks.named(methods) if method.environment is not None}


def _measured(
    part: Part, found: Environments, out: Path, *, seed: int, repeats: int, replicates: int, methods: str, on: list[str]
) -> list[Row]:
    if part is Part.AUDIT:
        return trak_audit.measure(found, seed=seed, projections=replicates)
    if part is Part.ADVICE:
        return advice.measure(found, seed=seed, networks=replicates)
    if part is Part.GLM:
        return glm.measure(found, seed=seed, repeats=repeats)
    if part is Part.NETWORK:
        return networks.measure(found, out, seed=seed, repeats=repeats, methods=methods, on=on)
    return trajectory.measure(found, seed=seed, replicates=replicates)


def _installed(found: Environments) -> list[Row]:
    rows: list[Row] = []
    for name, python in found.items():
        row: Row = {"rival": name, "requirements": " ".join(RIVALS[name].requirements)}
        reason = {"reason": python.reason} if isinstance(python, Failure) else {}
        rows.append({**row, "installed": not reason, **reason})
    return rows
