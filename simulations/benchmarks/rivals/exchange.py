"""One call of a program in another environment: arrays and settings in, arrays and a record out."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy import ndarray as Array

from simulations.benchmarks.rivals.contract import INPUT, OUTPUT, RECORD, SETTINGS
from simulations.benchmarks.timing import Timing

ROOT = Path(__file__).resolve().parents[3]
RUNNERS = "simulations.benchmarks.rivals.runners"
TIME_LIMIT = 3600.0  # seconds
LAST_LINES = 3


@dataclass(frozen=True, eq=False)
class Answer:
    """Result of a program: arrays, seconds (one per repeat), bytes added to its process, versions."""

    arrays: dict[str, Array]
    seconds: list[float]
    memory: float
    versions: dict[str, str]

    @property
    def named_versions(self) -> str:
        return " ".join(f"{package} {version}" for package, version in self.versions.items())

    @property
    def timing(self) -> Timing:
        """Of all repeats but the first, which also pays for what is loaded once; of that one where it is alone."""
        counted = self.seconds[1:] or self.seconds
        return Timing(float(np.median(counted)), min(counted), max(counted))


@dataclass(frozen=True)
class Failure:
    """A rival that gave no answer, and why: the last lines that it said."""

    reason: str


def ask(
    python: Path | Failure, program: str, arrays: dict[str, Array], settings: dict[str, Any], *, repeats: int = 1
) -> Answer | Failure:
    """Run `program` of the runners under the interpreter `python`, on one thread; a rival without one says why."""
    if isinstance(python, Failure):
        return python
    with TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / INPUT, **arrays)  # type: ignore[arg-type]
        (folder / SETTINGS).write_text(json.dumps({**settings, "repeats": repeats}))
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        environment = {
            **os.environ,
            **single,
            "PYTHONPATH": str(ROOT),
            "CUDA_VISIBLE_DEVICES": "",
            "HF_HUB_OFFLINE": "1",
        }
        command = [str(python), "-m", f"{RUNNERS}.{program}", name]
        try:
            done = subprocess.run(
                command, cwd=name, env=environment, capture_output=True, text=True, timeout=TIME_LIMIT, check=False
            )
        except subprocess.TimeoutExpired:
            return Failure(f"gave no answer within {TIME_LIMIT:.0f} s")
        except OSError as error:
            return Failure(str(error))
        if done.returncode < 0:
            return Failure(f"ended by signal {-done.returncode} (9: out of memory)")
        if done.returncode != 0:
            return Failure(last_words(done.stderr) or f"exit status {done.returncode}")
        with np.load(folder / OUTPUT, allow_pickle=False) as file:
            found = dict(file)
        return Answer(found, **json.loads((folder / RECORD).read_text()))


def last_words(text: str) -> str:
    """The last lines of a program's complaint, in one line; pip's warnings are not the reason."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("WARNING")]
    return " / ".join(lines[-LAST_LINES:])
