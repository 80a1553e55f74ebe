"""A run in a folder: states, batches, optimiser and fingerprint, each file with a digest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_numpy_array, is_torch_array
from numpy import ndarray as Array

from trak_theory.errors import UnsupportedError
from trak_theory.numerics.digests import digest_of_bytes, digest_of_file
from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.objective import Objective
from trak_theory.trajectory.optimizer.plain_data import as_plain, from_plain
from trak_theory.trajectory.optimizer.recipes import Optimizer
from trak_theory.trajectory.query import as_numpy
from trak_theory.trajectory.states.checkpoints import Checkpoints, States, state_file, write_state

FORMAT = 1  # of the files; one that this version does not know is refused
HEAD, SAMPLES, SIZES = "run.json", "samples.npy", "sizes.npy"
Fingerprint = Mapping[str, str] | None


def write_run(
    folder: Path,
    objective: Objective,
    batches: Sequence[Array],
    optimizer: Optimizer,
    states: States,
    fingerprint: Fingerprint,
) -> None:
    """The head is written last: a folder without one holds no whole run."""
    if (folder / HEAD).exists():
        raise UnsupportedError(f"{folder} holds a run already; give this one a folder of its own")
    steps, final = len(batches), states.get(len(batches))[0]
    own: dict[str, Any] = {  # first, for what it refuses
        "format": FORMAT,
        "arrays": _library(final),
        "n": objective.n,
        "p": objective.p,
        "steps": steps,
        "every": _spacing(states, optimizer),
        "optimizer": as_plain(optimizer, steps),
        "fingerprint": None if fingerprint is None else dict(fingerprint),
    }
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / SAMPLES, np.concatenate(batches))
    np.save(folder / SIZES, [len(batch) for batch in batches])
    for t in _kept(steps, own["every"]):
        write_state(folder, t, states.get(t))
    own["losses"] = [part.tolist() for part in _losses(objective, batches, (states.get(0)[0], final))]
    own["files"] = {path.name: digest_of_file(path) for path in _files(folder, steps, own["every"])}
    text = json.dumps(own, sort_keys=True)
    (folder / HEAD).write_text(json.dumps({"digest": digest_of_bytes(text.encode()), "run": own}, sort_keys=True))


@dataclass(frozen=True, eq=False)
class StoredRun:
    """What a folder holds of a run; losses, those of the run at its two ends, as in `_losses`."""

    batches: tuple[Array, ...]
    optimizer: Optimizer
    states: Checkpoints
    fingerprint: Fingerprint
    losses: Sequence[Sequence[float]]

    def check_losses(self, objective: Objective) -> None:
        """Refuse an objective that has other losses at θ_0 or θ_T."""
        ends = (self.states.checkpoint(0)[0], self.states.checkpoint(len(self.batches))[0])
        tolerance = float(array_namespace(ends[0]).finfo(ends[0].dtype).eps) ** 0.5
        for before, now in zip(self.losses, _losses(objective, self.batches, ends), strict=True):
            off, size = float(np.max(np.abs(np.array(before) - now))), float(np.max(np.abs(before)))
            if not off <= tolerance * size:
                raise UnsupportedError(
                    f"at the same parameters, the objective's losses are {off:.2g} away from those of the run, which "
                    f"are at most {size:.2g}: another model, loss or data; give the objective that was recorded"
                )


def read_run(folder: Path, objective: Objective) -> StoredRun:
    """Refuses what is damaged, and an objective with another number of samples or parameters."""
    own = _head(folder)
    for path in _files(folder, own["steps"], own["every"]):
        if not path.exists() or digest_of_file(path) != own["files"][path.name]:
            raise UnsupportedError(f"{path} is missing or damaged: the run cannot be loaded; record or save it again")
    for name in ("n", "p"):
        if getattr(objective, name) != own[name]:
            raise UnsupportedError(
                f"the run in {folder} was recorded with {name} = {own[name]}, this objective has "
                f"{name} = {getattr(objective, name)}; give the objective that was recorded"
            )
    samples, sizes = np.load(folder / SAMPLES), np.load(folder / SIZES)
    batches, optimizer = tuple(np.split(samples, np.cumsum(sizes)[:-1])), from_plain(own["optimizer"])
    like = _like(own["arrays"], objective)
    states = Checkpoints.reopened(objective, batches, optimizer, own["every"], folder, like)
    return StoredRun(batches, optimizer, states, own["fingerprint"], own["losses"])


def _head(folder: Path) -> dict[str, Any]:
    if not (folder / HEAD).exists():
        raise UnsupportedError(f"{folder} holds no run, or one whose saving was ended before it was whole")
    try:
        content = json.loads((folder / HEAD).read_text())
        own, digest = content["run"], content["digest"]
    except (ValueError, KeyError, TypeError):
        own, digest = None, ""
    if digest_of_bytes(json.dumps(own, sort_keys=True).encode()) != digest:
        raise UnsupportedError(f"{folder / HEAD} is damaged: the run cannot be loaded; record or save it again")
    if own["format"] != FORMAT:
        raise UnsupportedError(
            f"{folder} holds a run in format {own['format']}, this version reads {FORMAT}; load it with the version "
            "that saved it"
        )
    return own


def _spacing(states: States, optimizer: Optimizer) -> int:
    """Of the states to keep: those in between are replayed only where the run itself replays them."""
    return states.every if isinstance(states, Checkpoints) and states.optimizer is optimizer else 1


def _kept(steps: int, every: int) -> list[int]:
    return [*range(0, steps, every), steps]


def _files(folder: Path, steps: int, every: int) -> list[Path]:
    return [folder / SAMPLES, folder / SIZES, *(state_file(folder, t) for t in _kept(steps, every))]


def _library(theta: Tensor) -> str:
    if not (is_numpy_array(theta) or is_torch_array(theta)):
        raise UnsupportedError(f"a run on {type(theta).__name__} cannot be saved, only one on numpy or torch arrays")
    return "numpy" if is_numpy_array(theta) else "torch"


def _like(library: str, objective: Objective) -> Tensor:
    """An array of the library, on the objective's device."""
    theta = getattr(objective, "theta", None)
    if (library == "torch") != (theta is not None):
        raise UnsupportedError(
            f"the run was recorded on {library} arrays, which {type(objective).__name__} does not work on; give the "
            "objective that it was recorded with"
        )
    return np.empty(0) if theta is None else import_module("torch").empty(0, device=device(theta()))


def _losses(objective: Objective, batches: Sequence[Array], ends: tuple[Tensor, Tensor]) -> list[Array]:
    """ℓ_i of the first batch at θ_0 and of the last at θ_T: what tells a model and its loss from others."""
    return [
        as_numpy(objective.loss(theta, batch)) for theta, batch in zip(ends, (batches[0], batches[-1]), strict=True)
    ]
