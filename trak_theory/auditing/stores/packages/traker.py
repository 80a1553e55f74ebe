"""The save_dir of traker 0.2 and 0.3: gradients over √p through N(0, 1) or ±1 entries, 1 − p, scores.

Layout (0.3.2): metadata.json, id_<m>.json, experiments.json, <m>/grads.mmap (n, k), <m>/features.mmap (n, k),
<m>/out_to_loss.mmap (n, 1), <m>/<experiment>_grads.mmap (q, k), scores/<experiment>.mmap (n, q); every .mmap is a .npy
file, float16 or float32. Scores are the mean over models of XGX*ᵀ/mean|G|, G = (XᵀX + lambda_reg I)⁻¹, times the mean
of 1 − p: presence sign. λ (0 before 0.3.2), p and the seed are not stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from trak_theory.auditing.stores.contents import Member, Store, mean_residual
from trak_theory.auditing.stores.files import (
    NO_CHECKSUMS,
    count,
    entry,
    mentions,
    read_json,
    read_npy,
)
from trak_theory.auditing.stores.recovery import MISFIT, recovered_ridges, score_mismatch, tolerance
from trak_theory.auditing.stores.values import checked_rows, checked_vector
from trak_theory.errors import StoreError

METADATA = "metadata.json"
MISMATCH = "files are damaged or of two runs, or other models were averaged"
MARKS = ("metadata.json with 'JL dimension'", "<model>/grads.mmap")
MISSING = {
    "ridge": "--ridge: lambda_reg (0 by default) is not stored; `recovered_ridge` is what features.mmap tells",
    "parameters": "--parameters: the number p of parameters is not stored",
    "seed": "projector_seed is not stored; no option needs it",
}


@dataclass(frozen=True)
class _Metadata:
    path: Path
    n: int
    k: int
    matrix: str


@dataclass(frozen=True)
class _Experiment:
    name: str
    queries: int
    finalised: bool


def matches(path: Path) -> bool:
    """A folder whose metadata.json speaks of a JL dimension."""
    return mentions(path / METADATA, b"JL dimension")


def read(path: Path, scores: str | None = None) -> Store:
    """The store of a save_dir. scores: name of the experiment, where there are several finished ones."""
    metadata = _metadata(path)
    experiment, notes = _experiment(path, scores)
    models, left_out = _models(path)
    notes += left_out
    members = []
    for model in models:
        member, remarks = _member(metadata, model, experiment)
        members.append(member)
        notes += remarks
    found = _scores(metadata, experiment)
    notes += _mismatch(path, found, members)
    k, unprojected = metadata.k, metadata.matrix == "na"
    return Store(
        package="traker",
        path=path,
        members=tuple(members),
        scores=found,
        scores_name=None if experiment is None else experiment.name,
        projected=not unprojected,
        parameters=k if unprojected else None,
        scale_factor=1.0 if unprojected else 1 / float(np.sqrt(k)),
        over_root_p=True,
        parameter="lambda_reg",
        missing={name: how for name, how in MISSING.items() if not (unprojected and name != "ridge")},
        notes=(
            *notes,
            NO_CHECKSUMS,
        ),
    )


def _metadata(path: Path) -> _Metadata:
    file = path / METADATA
    content = read_json(file)
    if "train set size" not in content:
        raise StoreError(
            f"{file}: no 'train set size': of traker before 0.2, whose layout is another: compute it again"
        )
    matrix = str(entry(file, content, "JL matrix type", str))
    if matrix not in ("normal", "rademacher", "na"):
        raise StoreError(f"{file}: JL matrix type {matrix!r:.40}, known are normal, rademacher and na (no projection)")
    return _Metadata(path, count(file, content, "train set size"), count(file, content, "JL dimension"), matrix)


def _models(path: Path) -> tuple[list[str], tuple[str, ...]]:
    """Models whose features are complete; the others are named in notes, or in the error where there is no other."""
    ready, notes = [], []
    for file in sorted(path.glob("id_*.json")):
        for model, state in read_json(file).items():
            if not model.isdigit() or not isinstance(state, dict):
                raise StoreError(f"{file}: expected a model number and its state, found {model!r:.40}")
            if state.get("is_featurized") == 1 and state.get("is_finalized") == 1:
                ready.append(model)
            else:
                notes.append(f"model {model} is left out: its features were not finalised")
    if not ready:
        why = "; ".join(notes) or "there is no id_<model>.json"
        raise StoreError(f"{path}: no finished model ({why}): run featurize for all points, then finalize_features")
    return sorted(set(ready), key=int), tuple(notes)


def _experiment(path: Path, wanted: str | None) -> tuple[_Experiment | None, tuple[str, ...]]:
    file = path / "experiments.json"
    known = [_parsed(file, name, state) for name, state in (read_json(file) if file.exists() else {}).items()]
    if wanted is not None:
        known = [experiment for experiment in known if experiment.name == wanted]
        if not known:
            raise StoreError(f"{file}: no experiment {wanted!r}")
    finished = [experiment for experiment in known if experiment.finalised]
    if len(finished) > 1:
        names = ", ".join(experiment.name for experiment in finished)
        raise StoreError(f"{file}: holds scores of several experiments ({names}): name one")
    if finished:
        others = [experiment.name for experiment in known if not experiment.finalised]
        return finished[0], tuple(f"experiment {name} is left out: its scores were not finalised" for name in others)
    if len(known) == 1:
        return known[0], (f"experiment {known[0].name} has no finished scores: finalize_scores was not run",)
    return None, ("no finished scores: only features were read",)


def _parsed(file: Path, name: str, state: object) -> _Experiment:
    if not isinstance(state, dict) or Path(name).name != name:
        raise StoreError(f"{file}: {name!r:.60} is no experiment")
    return _Experiment(name, count(file, state, "num_targets"), state.get("scores_finalized") == 1)


def _member(metadata: _Metadata, model: str, experiment: _Experiment | None) -> tuple[Member, tuple[str, ...]]:
    folder, n, k = metadata.path / model, metadata.n, metadata.k
    done = read_npy(folder / "_is_featurized.mmap", (n, 1))
    if (written := int(np.count_nonzero(np.asarray(done) == 1))) < n:
        raise StoreError(f"{folder}: {written} of {n} points were featurised: run featurize for the others")
    if not (folder / "grads.mmap").exists():
        raise StoreError(f"{folder / 'grads.mmap'}: no such file: keep it, finalize_features(del_grads=False)")
    features = read_npy(folder / "grads.mmap", (n, k))
    notes = checked_rows(folder / "grads.mmap", features, zeros=False)
    preconditioned = read_npy(folder / "features.mmap", (n, k))
    notes += checked_rows(folder / "features.mmap", preconditioned)
    weights = folder / "out_to_loss.mmap"
    residual = -checked_vector(weights, read_npy(weights, (n, 1)), n)
    if residual.max() > 0:
        notes += (f"{weights}: {int(np.sum(residual > 0))} of {n} weights are negative: not 1 − p of a margin",)
    queries = None
    if experiment is not None:
        file = folder / f"{experiment.name}_grads.mmap"
        queries = read_npy(file, (experiment.queries, k))
        notes += checked_rows(file, queries)
    recovered = recovered_ridges(features, preconditioned)
    if recovered[0].misfit > MISFIT:
        other = "of another model, damaged, or XᵀX was singular in that precision and the scores are rounding noise"
        notes += (f"{folder}: features.mmap is not grads.mmap times an inverse: {other}",)
        return Member(model, features, queries, residual, preconditioned, recovered=recovered), notes
    weight = recovered[0].factor  # 1/mean|G|
    return Member(model, features, queries, residual, preconditioned, recovered=recovered, weight=weight), notes


def _mismatch(path: Path, scores: Array | None, members: list[Member]) -> tuple[str, ...]:
    """A remark where the scores are not features.mmap · queries · (1 − p), as traker multiplies them."""
    factors = [(m.preconditioned, m.queries) for m in members if m.preconditioned is not None and m.queries is not None]
    if scores is None or not factors:
        return ()
    found = score_mismatch(scores, factors, mean_residual(members))
    if found <= tolerance(str(scores.dtype), factors[0][0].shape[1]):
        return ()
    return (f"{path}: scores differ by {found:.2g} of the largest from what the stored features give: {MISMATCH}",)


def _scores(metadata: _Metadata, experiment: _Experiment | None) -> Array | None:
    if experiment is None or not experiment.finalised:
        return None
    file = metadata.path / "scores" / f"{experiment.name}.mmap"
    scores = read_npy(file, (metadata.n, experiment.queries))
    checked_rows(file, scores)
    return scores
