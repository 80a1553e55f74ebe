"""Pairwise scores of kronfluence 1.0: EK-FAC influence, no gradients.

Layout (1.0.1): <analysis>/scores_<name>/ with score_arguments.json (damping_factor), query_dataset_metadata.json and
train_dataset_metadata.json (dataset_size), pairwise_scores.safetensors: `all_modules` (q, n), or one matrix a module,
which add up. A score is g_jᵀH⁻¹g_i of measurement and training loss: presence sign of minus the measurement.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from trak_theory.auditing.stores.contents import OTHERWISE, Store
from trak_theory.auditing.stores.files import NO_CHECKSUMS, count, entry, read_json
from trak_theory.auditing.stores.safetensors import read_safetensors
from trak_theory.auditing.stores.values import checked_rows
from trak_theory.errors import StoreError

ARGUMENTS = "score_arguments.json"
PAIRWISE = "pairwise_scores.safetensors"
MARKS = ("scores_<name>/score_arguments.json",)
SIGN = (
    "scores are presence effects on minus the measurement: if compute_measurement returns what is better when larger, "
    "turn every sign"
)


def matches(path: Path) -> bool:
    """A scores folder, or a folder of them."""
    return (path / ARGUMENTS).is_file() or any(path.glob(f"scores_*/{ARGUMENTS}"))


def read(path: Path, scores: str | None = None) -> Store:
    """The store of a scores folder. scores: <name> of scores_<name>, where there are several with pairwise scores."""
    folder = path if (path / ARGUMENTS).is_file() else _chosen(path, scores)
    file, arguments = folder / ARGUMENTS, read_json(folder / ARGUMENTS)
    matrix, notes = _matrix(folder, file, arguments)
    damping = arguments.get("damping_factor", arguments.get("damping"))
    if damping is not None and (isinstance(damping, bool) or not isinstance(damping, (int, float)) or not damping >= 0):
        raise StoreError(f"{file}: 'damping_factor' should be a number ≥ 0 or null, found {damping!r:.60}")
    if "damping_factor" not in arguments:
        notes += ("damping is named as before kronfluence 1.0, whose defaults differ",)
    return Store(
        package="kronfluence",
        path=path,
        method="influence",
        scores=matrix,
        scores_name=folder.name.removeprefix("scores_"),
        projected=False,
        parameter="damping_factor (null: a tenth of the mean eigenvalue)",
        ridge=None if damping is None else float(damping),
        missing={"features": f"kronfluence stores none; {OTHERWISE}"},
        notes=(*notes, SIGN, NO_CHECKSUMS),
    )


def _chosen(path: Path, wanted: str | None) -> Path:
    folders = sorted(file.parent for file in path.glob(f"scores_*/{ARGUMENTS}"))
    pairwise = [folder for folder in folders if (folder / PAIRWISE).exists()]
    if wanted is not None:
        pairwise = [folder for folder in pairwise if folder.name == f"scores_{wanted}"]
    if len(pairwise) != 1:
        names = ", ".join(folder.name.removeprefix("scores_") for folder in folders)
        what = "several pairwise scores: name one" if pairwise else "no such pairwise scores"
        raise StoreError(f"{path}: {what}; it holds {names}")
    return pairwise[0]


def _matrix(folder: Path, arguments_file: Path, arguments: dict[str, object]) -> tuple[Array, tuple[str, ...]]:
    file = folder / PAIRWISE
    if not file.exists():
        raise StoreError(f"{file}: no such file: {_why_absent(folder)}")
    tensors, written = read_safetensors(file)
    _check_same_run(file, arguments_file, arguments, written)
    expected = _size(folder, "query"), _size(folder, "train")
    if arguments.get("aggregate_query_gradients") is True:
        expected = (1, expected[1])
    notes: tuple[str, ...] = ()
    for name, tensor in tensors.items():
        if tensor.shape != expected:
            raise StoreError(f"{file}: {name} has shape {tensor.shape}, expected (queries, points) = {expected}")
        notes += checked_rows(file, tensor)
    if not tensors:
        raise StoreError(f"{file}: holds no tensor")
    if len(tensors) == 1:
        return next(iter(tensors.values())).T, notes
    total = np.asarray(np.sum(list(tensors.values()), 0, dtype=np.float64))
    return total.T, (*notes, f"scores of {len(tensors)} modules were added")


def _why_absent(folder: Path) -> str:
    if any(folder.glob("pairwise_scores_*")):
        return "only partitions are there, run aggregate_pairwise_scores"
    if (folder / "self_scores.safetensors").exists():
        return "only self-influence is there, run compute_pairwise_scores"
    return "half-written, run compute_pairwise_scores again"


def _size(folder: Path, which: str) -> int:
    """Points of a data set, or of the subset that was scored."""
    file = folder / f"{which}_dataset_metadata.json"
    content = read_json(file)
    if content.get("indices") is not None:
        return len(entry(file, content, "indices", list))
    return count(file, content, "dataset_size")


def _check_same_run(file: Path, arguments_file: Path, arguments: dict[str, object], written: object) -> None:
    """The tensors carry the arguments they were computed with, as text."""
    for name, value in written.items() if isinstance(written, dict) else ():
        if name in arguments and str(arguments[name]) != value:
            raise StoreError(f"{file}: written with {name} = {value}, but {arguments_file.name} says {arguments[name]}")
