"""A sweep on disk: what it has computed up to its last checkpoint, and the adjoint to go on with."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import numpy as np
from array_api_compat import array_namespace, device, to_device
from numpy import ndarray as Array

from trak_theory.errors import UnsupportedError
from trak_theory.numerics.digests import SIZE, digest_of_bytes
from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.run import Run
from trak_theory.trajectory.sweep.contribution import Contribution

KEPT = 2  # adjoints: the last one, and the one before should it be damaged
Arrays = dict[str, Array]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The adjoint of x_t, by its read-out points and arrays, and the contributions of the steps T−1 … t."""

    t: int
    points: list[int]
    arrays: list[Tensor]
    done: tuple[Contribution, ...]


class SweepFolder:
    """Checkpoints of one sweep in a folder: `at-<t>` holds the adjoint of x_t, `done-<t>` what was added to it.

    A file starts with a digest of its content and appears under its name only when it is whole. One that is missing or
    damaged is passed over: the sweep goes on from the checkpoint before, or from the end of the run, and computes the
    rest again. A folder of another sweep is refused, by a digest of what this one computes. A checkpoint is made every
    ⌈√T⌉ steps; it takes a state for each query, on disk and, while it is written, in memory.
    """

    def __init__(self, folder: Path | str, run: Run, *, settings: object, query: Tensor) -> None:
        """settings: all that the result depends on beside the run and the query's gradient (q, p) at θ_T."""
        parts = [str(settings), str(sorted((run.fingerprint or {}).items()))]
        parts += [
            digest_of_bytes(_on_host(part).tobytes()) for part in (run.state(0)[0], run.final, query, *run.batches)
        ]
        self.folder, self.every = Path(folder), isqrt(run.steps - 1) + 1
        self._begin, self._new = run.steps, list[Contribution]()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._claim(digest_of_bytes("\n".join(parts).encode()))

    def add(self, contribution: Contribution) -> None:
        self._new.append(contribution)

    def is_due(self, t: int) -> bool:
        """Whether a checkpoint of x_t is to be kept."""
        return t % self.every == 0

    def keep(self, t: int, points: Sequence[int], arrays: Sequence[Tensor]) -> None:
        done: Arrays = {"begin": np.asarray(self._begin)}
        for part in self._new:
            done |= {f"samples-{part.step}": part.samples, f"influence-{part.step}": part.influence}
        adjoint = {f"array-{k}": _on_host(part) for k, part in enumerate(arrays)}
        self._write(f"done-{t:07d}", done)
        self._write(f"at-{t:07d}", {"points": np.asarray(points, dtype=np.int64), **adjoint})
        self._begin, self._new = t, []
        for old in sorted(self.folder.glob("at-*"))[KEPT:]:
            old.unlink()

    def found(self, like: Tensor) -> Checkpoint | None:
        """The furthest checkpoint that is whole, as are all contributions before it; arrays like `like`."""
        done: list[Contribution] = []
        furthest, begin = None, self._begin
        for path in sorted(self.folder.glob("done-*"), reverse=True):
            added, t = self._read(path.name), int(path.name.removeprefix("done-"))
            if added is None or int(added["begin"]) != begin:
                break
            begin, done = t, [*done, *_contributions(added)]
            adjoint = self._read(f"at-{t:07d}")
            if adjoint is not None:
                arrays = [_like(adjoint[f"array-{k}"], like) for k in range(len(adjoint) - 1)]
                furthest = Checkpoint(t, adjoint["points"].tolist(), arrays, tuple(done))
        self._begin = self._begin if furthest is None else furthest.t
        return furthest

    def _claim(self, identity: str) -> None:
        file = self.folder / "sweep"
        if file.exists() and file.read_text() != identity:
            raise UnsupportedError(
                f"{self.folder} holds a sweep of another run, query or setting; give this one a folder of its own"
            )
        file.write_text(identity)

    def _write(self, name: str, arrays: Arrays) -> None:
        content = io.BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]  # the stub takes them for allow_pickle
        part = self.folder / f"{name}.part"
        with part.open("wb") as file:
            file.write(digest_of_bytes(content.getbuffer()).encode())
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.folder / name)

    def _read(self, name: str) -> Arrays | None:
        """The arrays of a file; None where it is missing or not what was written."""
        path = self.folder / name
        content = path.read_bytes() if path.exists() else b""
        digest, rest = content[: 2 * SIZE], content[2 * SIZE :]
        if not rest or digest_of_bytes(rest).encode() != digest:
            return None
        with np.load(io.BytesIO(rest), allow_pickle=False) as arrays:
            return dict(arrays)


def _contributions(added: Arrays) -> list[Contribution]:
    """Of one file, the last step first."""
    steps = sorted((int(name.removeprefix("samples-")) for name in added if name.startswith("samples-")), reverse=True)
    return [Contribution(t, added[f"samples-{t}"], added[f"influence-{t}"]) for t in steps]


def _on_host(part: Tensor) -> Array:
    return np.ascontiguousarray(part if isinstance(part, np.ndarray) else np.asarray(to_device(part, "cpu")))


def _like(part: Array, like: Tensor) -> Tensor:
    return array_namespace(like).asarray(part, device=device(like))
