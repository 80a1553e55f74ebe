"""trak-theory audit: what projection and ridge did to scores that somebody has already computed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trak_theory.cli.training import (
    Fraction,
    LearningRate,
    Momentum,
    Steps,
    TrainingRidge,
    WeightDecay,
    recipe_from,
)

FEATURES_HELP = (
    "An .npz file with features (n, p) or, projected, (n, k); queries (q, ·); residual (n,); "
    "optionally curvature (n,), scores (n, q), learning_rates (steps,)."
)
OPTIONAL = ("curvature", "scores", "learning_rates")


def audit(
    features: Annotated[Path, typer.Argument(metavar="FEATURES.npz", help=FEATURES_HELP)],
    out: Annotated[Path, typer.Option(help="Folder of the report: report.html, audit.json, error_bars.parquet.")],
    k: Annotated[int | None, typer.Option(help="Projected dimension; the package's default otherwise.")] = None,
    ensemble: Annotated[int, typer.Option(help="Projections averaged.")] = 1,
    ridge: Annotated[float | None, typer.Option(help="The package's own ridge parameter.")] = None,
    package: Annotated[str, typer.Option(help="none (μ, sum convention), traker or dattri.")] = "none",
    projected: Annotated[bool, typer.Option("--projected", help="The features are already projected.")] = False,
    parameters: Annotated[int | None, typer.Option(help="p, where projected features do not show it.")] = None,
    weight_decay: WeightDecay = None,
    learning_rate: LearningRate = None,
    steps: Steps = None,
    momentum: Momentum = 0.0,
    training_ridge: TrainingRidge = None,
    fraction: Fraction = None,
    top: Annotated[int | None, typer.Option(help="m of the top-m overlap; n/20 otherwise.")] = None,
) -> None:
    """Audit TRAK scores: implicit ridge, error bars, what each dropped term costs, and what to change."""
    try:
        from trak_theory.auditing.audit import audit as run_audit
        from trak_theory.auditing.stores.archive import read_arrays
        from trak_theory.auditing.report import write_report

        arrays = read_arrays(features, required=("features", "queries", "residual"), optional=OPTIONAL)
        rates = arrays.pop("learning_rates", learning_rate)
        found = run_audit(
            **arrays,
            k=k,
            ensemble=ensemble,
            ridge=ridge,
            package=package,
            recipe=recipe_from(weight_decay, rates, steps, momentum, training_ridge),
            fraction=fraction,
            projected=projected,
            parameters=parameters,
            top=top,
        )
        paths = write_report(found, out)
    except ImportError as error:
        typer.echo(f"error: {error.name} is missing; install trak-theory[studies]", err=True)
        raise typer.Exit(1) from error
    except (OSError, ValueError, TypeError, MemoryError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    for warning in found.warnings:
        typer.echo(f"warning: {warning}")
    typer.echo(", ".join(map(str, paths)))
