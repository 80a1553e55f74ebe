"""Input and output of a rival's process. Standard library and numpy only: it runs in every rival's environment."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from numpy import ndarray as Array

INPUT, SETTINGS, OUTPUT, RECORD = "input.npz", "settings.json", "output.npz", "record.json"
Work = Callable[[dict[str, Array], dict[str, Any]], dict[str, Array]]


def serve(work: Work, *packages: str) -> None:
    """Run `work(arrays, settings)` on the folder argv[1], `repeats` times, and write its arrays and its record.

    input.npz      what `work` reads
    settings.json  its settings, and `repeats`
    output.npz     what `work` returned
    record.json    processor seconds of each repeat (one thread: the wall time of an idle machine), memory (bytes that
                   the first one added to the process), versions
    """
    folder = Path(sys.argv[1])
    with np.load(folder / INPUT, allow_pickle=False) as file:
        arrays = dict(file)
    settings = json.loads((folder / SETTINGS).read_text())
    repeats = settings.pop("repeats")
    before = _start_of_peak()
    result, first = _timed(work, arrays, settings)
    memory = _memory("VmHWM") - before
    seconds = [first] + [_timed(work, arrays, settings)[1] for _ in range(repeats - 1)]
    np.savez(folder / OUTPUT, **result)  # type: ignore[arg-type]
    versions = {package: version(package) for package in packages}
    (folder / RECORD).write_text(json.dumps({"seconds": seconds, "memory": memory, "versions": versions}))


def _timed(work: Work, arrays: dict[str, Array], settings: dict[str, Any]) -> tuple[dict[str, Array], float]:
    start = process_time()
    result = work(arrays, settings)
    return result, process_time() - start


def _start_of_peak() -> float:
    """Resident bytes, from which on the peak counts; NaN where the system does not tell."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return float("nan")
    return _memory("VmRSS")


def _memory(name: str) -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return 1024.0 * next((int(line.split()[1]) for line in lines if line.startswith(name)), float("nan"))
