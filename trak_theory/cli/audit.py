"""trak-theory audit: a verdict on scores that somebody has already computed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trak_theory.cli.speaking import NOT_TRUSTED, AsJson, mistakes_in_one_line, say, say_json
from trak_theory.cli.training import (
    Fraction,
    LearningRate,
    Momentum,
    Steps,
    TrainingRidge,
    WeightDecay,
    recipe_from,
)
from trak_theory.retraining.ridge_rule import TrainingRecipe

if TYPE_CHECKING:
    from trak_theory.auditing.result import Audit

PATH_HELP = (
    "Store of traker or another package, or features.npz: features (n, p) or, projected, (n, k); queries (q, ·); "
    "residual (n,); optionally curvature (n,), scores (n, q), learning_rates (steps,), parameters."
)
OUTPUTS_HELP = (
    "An .npz file of retrained models: subsets (B, m) of indices, filled up with -1, or a mask (B, n); outputs (B, q); "
    "optionally replicates (R, B, q). Adds the LDS with its error and ceiling."
)
JOBS_HELP = (
    "Threads that multiply the blocks of rows of a large projected store; more than one needs joblib. The result is "
    "the same for any number."
)
DASK_HELP = (
    "Multiply the k × k Gram matrices on this Dask scheduler's workers, which must find PATH under the same name."
)


def audit(
    path: Annotated[Path, typer.Argument(metavar="PATH", help=PATH_HELP)],
    out: Annotated[Path, typer.Option(help="Folder of the report: report.html, audit.json, error_bars.parquet.")],
    k: Annotated[int | None, typer.Option(help="Projected dimension; the package's default otherwise.")] = None,
    ensemble: Annotated[int, typer.Option(help="Projections averaged.")] = 1,
    ridge: Annotated[float | None, typer.Option(help="The package's own ridge parameter.")] = None,
    package: Annotated[str, typer.Option(help="Of features.npz: none (μ, sum convention), traker or dattri.")] = "none",
    projected: Annotated[bool, typer.Option("--projected", help="The features are already projected.")] = False,
    parameters: Annotated[int | None, typer.Option(help="p, where projected features do not show it.")] = None,
    experiment: Annotated[str | None, typer.Option(help="Name of the scores, where a store holds several.")] = None,
    outputs: Annotated[Path | None, typer.Option(help=OUTPUTS_HELP)] = None,
    weight_decay: WeightDecay = None,
    learning_rate: LearningRate = None,
    steps: Steps = None,
    momentum: Momentum = 0.0,
    training_ridge: TrainingRidge = None,
    fraction: Fraction = None,
    top: Annotated[int | None, typer.Option(help="m of the top-m overlap; n/20 otherwise.")] = None,
    jobs: Annotated[int, typer.Option(help=JOBS_HELP, min=1)] = 1,
    dask: Annotated[str | None, typer.Option(metavar="ADDRESS", help=DASK_HELP)] = None,
    as_json: AsJson = False,
) -> None:
    """Verdict on TRAK scores, their error bars, and the setting to use.

    Exit status 0: trust the order of the scores; 3: do not; 2: bad input.
    """
    with mistakes_in_one_line():
        from trak_theory.auditing.reporting.page import Made
        from trak_theory.auditing.reporting.report import as_json as record
        from trak_theory.auditing.reporting.report import check_writable, write_report
        from trak_theory.auditing.retrained import against_retraining, read_retrained
        from trak_theory.auditing.stored import audit_store
        from trak_theory.auditing.stores import recognise
        from trak_theory.numerics.gram import gram_workers

        check_writable(out)
        retrained = None if outputs is None else read_retrained(outputs)
        with gram_workers(jobs, dask):
            store = recognise(path, scores=experiment)
            rates = learning_rate if store.learning_rates is None else store.learning_rates
            recipe: TrainingRecipe | float | None = recipe_from(weight_decay, rates, steps, momentum, training_ridge)
            found = audit_store(
                store,
                k=k,
                ensemble=ensemble,
                ridge=ridge,
                package=package,
                projected=projected,
                parameters=parameters,
                recipe=recipe,
                fraction=fraction,
                top=top,
            )
        if retrained is not None:
            found = against_retraining(found, retrained)
        paths = write_report(found, out, Made.now(str(path)))
    if as_json:
        say_json(record(found))
    else:
        _print(found, paths)
    raise typer.Exit(0 if found.verdict.trust else NOT_TRUSTED)


def _print(found: Audit, paths: list[Path]) -> None:
    say(found.verdict.sentence)
    say(found.reference)
    for finding in found.findings:
        say(f"finding: {finding}")
    for remark in found.remarks:
        say(f"remark: {remark}")
    say(", ".join(map(str, paths)))
