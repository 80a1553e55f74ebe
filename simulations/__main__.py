"""Command line of the studies: python -m simulations list | run | status | claims | compare | table | unpack."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from joblib import Parallel, cpu_count, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from simulations.engine.evidence import FULL, QUICK, pack, pack_whole, unpack
from simulations.engine.progress import duration_text
from simulations.engine.reading import ResultsError, reading
from simulations.engine.runner import Outcome, run
from simulations.engine.source import OtherCodeError, code_of
from simulations.engine.store import STATES, Store
from simulations.engine.study import Study, UnknownStudyError, all_studies, find_study

if TYPE_CHECKING:
    from simulations.ledger.judge import Ledger

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


LOST_WORKER = "a worker process was killed, perhaps for lack of memory: try fewer --jobs"


class Size(StrEnum):
    quick = "quick"
    full = "full"


NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A study's name, or all.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed; each cell derives its own from this and its parameters.")]
KeepStaleOption = Annotated[
    bool, typer.Option("--keep-stale", help="Take cells that other code computed as they are, and say so.")
]
JobsOption = Annotated[int | None, typer.Option(min=1, help="Worker processes.", show_default="all cores")]
OutOption = Annotated[Path, typer.Option(help="Folder of the results, OUT/<study>/<cell>.parquet.")]


@app.callback()
def main() -> None:
    """Run the simulation studies. Results are kept cell by cell: stop at any time, run again to continue."""


@app.command("list")
def list_studies() -> None:
    """Name the studies, with what each shows and its number of cells."""
    for study in all_studies():
        typer.echo(f"{study.name}  ({len(study.quick)} cells quick, {len(study.full)} full)\n    {study.summary}")


@app.command("run")
def run_studies(
    name: NameArgument,
    size: Annotated[Size, typer.Option(help="Which grid of cells.")] = Size.quick,
    jobs: JobsOption = None,
    seed: SeedOption = 0,
    out: OutOption = Path("results"),
    dask: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Run on this Dask scheduler's workers; OUT must be shared by them."),
    ] = None,
    keep_stale: KeepStaleOption = False,
) -> None:
    """Compute the cells of a study (or of all) that are missing or that other code computed; failures are tried again.

    The exit status is 1 when cells failed; their parameters and tracebacks are in OUT/<study>/<cell>.failed.json.
    """
    able, lacking = [], False
    for study in _studies(name):
        if reason := study.lacking():
            typer.echo(f"{study.name}: {reason}", err=True)
            lacking = True
        else:
            able.append(study)
    try:
        outcomes = run(
            able,
            size=size.value,
            jobs=jobs or cpu_count(),
            seed=seed,
            out=out,
            dask=dask,
            keep_stale=keep_stale,
            announce=typer.echo,
        )
    except KeyboardInterrupt:
        typer.echo(f"\n{name}: interrupted; finished cells are kept, run it again to continue", err=True)
        raise typer.Exit(130) from None
    except (OSError, TerminatedWorkerError, OtherCodeError) as error:
        reason = LOST_WORKER if isinstance(error, TerminatedWorkerError) else f"stopped: {error}"
        typer.echo(f"{name}: {reason}; finished cells are kept, run it again to continue", err=True)
        raise typer.Exit(1) from error
    for study, outcome in zip(able, outcomes, strict=True):
        _report(study, outcome, out)
    raise typer.Exit(int(lacking or any(outcome.failures for outcome in outcomes)))


@app.command()
def status(name: NameArgument = "all", seed: SeedOption = 0, out: OutOption = Path("results")) -> None:
    """Count the cells of each grid that are fresh, stale (other code computed them), have failed, and are missing."""
    store, stale = Store(out), []
    typer.echo(f"{'study':24} {'size':5} {'fresh':>7} {'stale':>7} {'failed':>7} {'missing':>7}")
    for study in _studies(name):
        for size in Size:
            states = Counter(store.state(cell, code_of(study.run)) for cell in study.cells(size.value, seed))
            counts = " ".join(f"{states[state]:7}" for state in STATES)
            typer.echo(f"{study.name:24} {size.value:5} {counts}")
            stale += [study.name] if states["stale"] and study.name not in stale else []
    if stale:
        typer.echo(f"stale: {', '.join(stale)}; compute them again with: python -m simulations run NAME --out {out}")


@app.command()
def claims(
    out: OutOption = Path("results"),
    jobs: JobsOption = None,
    seed: SeedOption = 0,
    keep_stale: KeepStaleOption = False,
    update: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.md", help="Write the tables into this page, and the rows they rest on beside.", dir_okay=False
        ),
    ] = None,
    evidence: Annotated[Path, typer.Option(help="Where the rows of the quick size go.", dir_okay=False)] = QUICK,
    full: Annotated[Path, typer.Option(help="Where the rows of the full size go.", dir_okay=False)] = FULL,
) -> None:
    """Check the formulas, judge the studies at their quick size, and print both tables.

    With --update, studies that OUT holds whole at full size under the seed of the confirmation are judged there too;
    of the others the rows shipped before stay.
    The exit status is 1 when a formula's claim does not hold or results are missing or stale. Claims of studies say
    what was measured; those that fail stay in the ledger and are discussed there.
    """
    from simulations.ledger.judge import findings_table, judge_all
    from trak_theory.claims import checked, registry
    from trak_theory.cli.claims import SEED, ledger_table

    store = Store(out)
    try:
        judged = judge_all(store, seed=seed, keep_stale=keep_stale)
    except ResultsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    if judged.missing:
        typer.echo(f"not complete in {out}: {', '.join(judged.missing)}; python -m simulations run all", err=True)
        if update is not None:
            raise typer.Exit(1)
    entries = Parallel(n_jobs=jobs or cpu_count())(delayed(checked)(name, seed=SEED) for name in registry())
    formulas, studies = ledger_table(entries), findings_table(judged)
    typer.echo(f"{studies}\n\n{formulas}")
    if update is not None:
        pack(store, [cell for study in all_studies() for cell in study.cells("quick", seed)], evidence)
        _write_claims(update, store, judged, formulas, (evidence, full))
    raise typer.Exit(int(bool(judged.missing) or not all(entry.holds for entry in entries)))


def _write_claims(page: Path, store: Store, quick: Ledger, formulas: str, evidence: tuple[Path, Path]) -> None:
    """The page of claims, and the rows of the full size."""
    from simulations.findings.registry import confirmation
    from simulations.ledger.check import unpacked
    from simulations.ledger.confirmed import confirmed_table
    from simulations.ledger.judge import findings_table, judge_confirmed, made_from
    from simulations.ledger.page import MarksError, write_page

    pack_whole(store, [study.cells("full", confirmation(study.name)) for study in all_studies()], evidence[1])
    with unpacked(evidence[1]) as shipped:
        confirmed = confirmed_table(quick, judge_confirmed(shipped))
    try:
        write_page(
            page,
            studies=findings_table(quick),
            full=confirmed,
            formulas=formulas,
            made_from=made_from(),
            evidence=evidence,
        )
    except MarksError as error:
        raise typer.BadParameter(str(error), param_hint="--update") from error


@app.command()
def compare(
    out: OutOption = Path("results"),
    size: Annotated[Size, typer.Option(help="Which grid of cells.")] = Size.quick,
    seed: SeedOption = 0,
    keep_stale: KeepStaleOption = False,
) -> None:
    """Hold results against the rows that ship: cells that come out otherwise, and how far each claim has moved.

    Another processor or another version of a package rounds otherwise, which the training of a network multiplies;
    z tells that from another result. Under a seed of your own the claims alone are compared. The exit status is 1
    when no study is stored whole, or rows are stale.
    """
    from simulations.ledger.check import unpacked
    from simulations.ledger.compared import compared, compared_table

    try:
        with unpacked(QUICK if size is Size.quick else FULL) as shipped:
            found = compared(Store(out), shipped, size=size.value, seed=seed, keep_stale=keep_stale)
    except ResultsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    if not found.moves:
        typer.echo(f"{out} holds no study whole at its {size} size under the seed {seed}", err=True)
        raise typer.Exit(1)
    typer.echo(compared_table(found))


@app.command()
def table(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A study that has tables.")],
    size: Annotated[Size, typer.Option(help="Which grid of cells.")] = Size.full,
    seed: SeedOption = 0,
    out: OutOption = Path("results"),
    keep_stale: KeepStaleOption = False,
) -> None:
    """Print the tables of a study's stored rows as Markdown. The exit status is 1 when cells are missing or stale."""
    from simulations.tables import tabled_studies, tables

    if name not in tabled_studies():
        raise typer.BadParameter(f"{name!r} has no tables: choose from {tabled_studies()}", param_hint="NAME")
    study, store = find_study(name), Store(out)
    if missing := sum(not store.path(cell).exists() for cell in study.cells(size.value, seed)):
        typer.echo(f"{name}: {missing} cells are missing in {out}; run them with --size {size.value}", err=True)
        raise typer.Exit(1)
    try:
        with reading([seed], keep_stale=keep_stale) as rules:
            rows = store.load(study, size.value)
    except ResultsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    typer.echo(tables(name, rows))
    for what in rules.stale.values():
        typer.echo(f"\nStale: {what}.")


@app.command("unpack")
def unpack_evidence(
    out: OutOption = Path("results"),
    evidence: Annotated[
        list[Path] | None, typer.Option(help="A file of packed rows.", show_default="those of both sizes")
    ] = None,
) -> None:
    """Put the rows that the repository ships, those behind its claims, into a folder as if they were computed here."""
    try:
        typer.echo(f"{sum(unpack(path, Store(out)) for path in evidence or (QUICK, FULL))} cells in {out}")
    except ResultsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


def _studies(name: str) -> list[Study]:
    try:
        return all_studies() if name == "all" else [find_study(name)]
    except UnknownStudyError as error:
        raise typer.BadParameter(f"{error} or 'all'", param_hint="NAME") from error


def _report(study: Study, outcome: Outcome, out: Path) -> None:
    stale = f" ({outcome.stale} of them again, for other code)" if outcome.stale else ""
    took = f" in {duration_text(outcome.seconds)} of work" if outcome.computed else ""
    typer.echo(
        f"{study.name}: {outcome.computed} cells computed{stale}{took}, {outcome.kept} were there, "
        f"{len(outcome.failures)} failed"
    )
    for failure in outcome.failures:
        typer.echo(f"  failed: {dict(failure.cell.params)}: {failure.error}", err=True)
        typer.echo(f"    traceback in {out / study.name / failure.cell.key}.failed.json", err=True)


if __name__ == "__main__":
    app(prog_name="python -m simulations")
