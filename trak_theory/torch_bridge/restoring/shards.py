"""One pass over the training samples in shards: in memory or on disk, resumable, by any number of workers."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy import ndarray as Array

from trak_theory.errors import require
from trak_theory.torch_bridge.module import Rows, digest
from trak_theory.torch_bridge.restoring.output_losses import OutputLoss
from trak_theory.torch_bridge.restoring.points import Points, SketchedModule

Progress = Callable[[Iterable[int]], Iterable[int]]


@dataclass(frozen=True)
class Pass:
    """What decides the numbers of a pass: two passes with equal `Pass` have equal shards.

    samples, parameters, scales, model_and_loss   digests; of a forward pass written by hand only what `repr` shows
    seed                                          of sketches and probes
    """

    samples: str
    parameters: str
    scales: str
    model_and_loss: str
    kind: str
    k: int
    directions: int
    ensemble: int
    shard_rows: int
    probed: int
    seed: int


@dataclass(frozen=True, eq=False)
class Shards:
    """The shards of a pass, computed where a folder does not hold them.

    folder   None: in memory; else SHARD.npz files, written whole or not at all
    jobs     joblib workers; inside `joblib.parallel_config("dask")`, tasks of a Dask cluster. No number depends on it
    """

    module: SketchedModule
    rows: Rows
    loss: OutputLoss
    what: Pass
    folder: Path | None
    jobs: int

    def passes(self, progress: Progress) -> Callable[[], Iterator[Points]]:
        """Go through the shards as often as one likes: the first time computes them."""
        if self.folder is not None:
            _claim(self.folder, self.what)
            return lambda: self._computed(progress)
        held: list[Points] = []

        def again() -> Iterator[Points]:
            if held:
                yield from held
                return
            for points in self._computed(progress):
                held.append(points._replace(rows=points.rows[:, :, :1]))
                yield points

        return again

    def _computed(self, progress: Progress) -> Iterator[Points]:
        places = progress(range(-(-self.rows.n // self.what.shard_rows)))
        if self.jobs == 1:
            return map(self._shard, places)
        require("joblib")
        from joblib import Parallel, delayed

        found: Iterator[Points] = Parallel(n_jobs=self.jobs, return_as="generator")(
            delayed(self._shard)(place) for place in places
        )
        return found

    def _shard(self, place: int) -> Points:
        path = None if self.folder is None else self.folder / f"shard-{place:05d}.npz"
        if path is not None and (held := _read(path)) is not None:
            return held
        first = place * self.what.shard_rows
        own = self.rows.part(slice(first, first + self.what.shard_rows))
        draws = torch.Generator().manual_seed((self.what.seed + place) % 2**63)
        found = self.module.points(own, self.loss, self.what.directions, probed=self.what.probed, draws=draws)
        if path is not None:
            _write(path, found)
        return found


def _claim(folder: Path, what: Pass) -> None:
    """Make the folder that of this pass; refuse that of another one, with the first difference."""
    folder.mkdir(parents=True, exist_ok=True)
    path, own = folder / "pass.json", asdict(what)
    if not path.exists():
        _replace(path, json.dumps(own, indent=1).encode())
        return
    held = json.loads(path.read_text())
    for name, value in own.items():
        if held.get(name) != value:
            raise ValueError(
                f"{folder} holds another pass: its {name} is {held.get(name)}, this one's {value}; give this one a "
                "folder of its own"
            )


def _read(path: Path) -> Points | None:
    """None for a file that is missing or damaged: it is computed anew."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            return Points(**{name: held[name] for name in Points._fields})
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
        return None


def _write(path: Path, points: Points) -> None:
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as file:
        np.savez(file, **points._asdict())
    part.replace(path)


def _replace(path: Path, content: bytes) -> None:
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)


def array_digest(values: Array | None) -> str:
    """A hash of an array's bytes, "" for none."""
    return "" if values is None else digest({"": torch.from_numpy(np.ascontiguousarray(values))})
