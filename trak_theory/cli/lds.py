"""trak-theory lds: the linear datamodelling score of scores on disk, with its error and its ceilings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy import ndarray as Array

from trak_theory.cli.speaking import AsJson, mistakes_in_one_line, say, say_json

if TYPE_CHECKING:
    from trak_theory.retraining import Lds, OverQueries
    from trak_theory.retraining.crossed import CrossedMean

REQUIRED, OPTIONAL = ("scores", "subsets", "outputs"), ("replicates", "other")
FILES_HELP = (
    "One .npz file, or .npy files named after their arrays: scores (n, q), presence sign; subsets (B, m), indices, "
    "shorter rows filled up with -1, or a mask (B, n); outputs (B, q) after training on each subset; "
    "optionally replicates (R, B, q), more trainings on the same subsets, and other (n, q), scores to compare with."
)


def lds(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help=FILES_HELP)],
    level: Annotated[float, typer.Option(help="Of the confidence intervals.")] = 0.95,
    as_json: AsJson = False,
) -> None:
    """Linear datamodelling score: its error over subsets and queries, and the ceilings to read it against.

    Exit status 2 when the input cannot be used.
    """
    from trak_theory.auditing.retrained import subset_rows
    from trak_theory.retraining import compare
    from trak_theory.retraining import lds as score

    with mistakes_in_one_line():
        arrays = read_files(files)
        other, rows = arrays.pop("other", None), subset_rows(arrays["subsets"])
        found = score(arrays["scores"], rows, arrays["outputs"], replicates=arrays.get("replicates"))
        gap = None if other is None else compare(arrays["scores"], other, rows, arrays["outputs"])
        if as_json:
            say_json(as_dict(found, gap, level))
        else:
            say(as_text(found, gap, level))
    for warning in found.warnings:
        typer.echo(f"warning: {warning}", err=True)


def read_files(files: list[Path]) -> dict[str, Array]:
    """The arrays of one .npz file, or of .npy files by their names."""
    from trak_theory.auditing.stores.archive import read_arrays
    from trak_theory.auditing.stores.files import read_npy

    if len(files) == 1 and files[0].suffix != ".npy":
        return read_arrays(files[0], required=REQUIRED, optional=OPTIONAL)
    wrong = [str(file) for file in files if file.suffix != ".npy" or file.stem not in REQUIRED + OPTIONAL]
    if wrong:
        raise ValueError(f"{wrong} are not known; the .npy files are {REQUIRED + OPTIONAL}")
    missing = sorted(set(REQUIRED) - {file.stem for file in files})
    if missing:
        raise ValueError(f"there is no .npy file of {missing}")
    return {file.stem: read_npy(file) for file in files}


def estimates(found: Lds, gap: OverQueries | None) -> dict[str, CrossedMean]:
    """Those numbers that there are, by name."""
    every = {
        "LDS": found.estimate,
        "ceiling by training noise": found.noise_ceiling,
        "LDS / that ceiling": found.corrected,
        "ceiling of sums over points": found.additive_ceiling,
        "LDS less that of the other scores": None if gap is None else gap.estimate,
    }
    return {name: estimate for name, estimate in every.items() if estimate is not None}


def as_text(found: Lds, gap: OverQueries | None, level: float) -> str:
    estimate = found.estimate
    lines = [f"{estimate.subsets} subsets, {estimate.queries} queries; ± one standard error over both"]
    for name, one in estimates(found, gap).items():
        low, high = one.interval(level)
        lines.append(f"{name:<34} {one.value:6.3f} ± {one.se:.3f}   {level:.0%} [{low:.3f}, {high:.3f}]")
    low, high = found.interval(level, over="subsets")
    lines.append(
        f"for these queries alone            {found.mean:6.3f} ± {estimate.subset_se:.3f}   "
        f"{level:.0%} [{low:.3f}, {high:.3f}]; half that error takes {4 * estimate.subsets} subsets"
    )
    lines += [f"query {query}: no LDS, {reason}" for query, reason in found.undefined.items()]
    return "\n".join(lines)


def as_dict(found: Lds, gap: OverQueries | None, level: float) -> dict[str, object]:
    numbers = {
        name: {"value": one.value, "bias": one.bias, "se": one.se, "interval": one.interval(level)}
        for name, one in estimates(found, gap).items()
    }
    per_query = [None if np.isnan(value) else value for value in found.per_query.tolist()]
    return {"level": level, **numbers, "per_query": per_query, "undefined": found.undefined}
