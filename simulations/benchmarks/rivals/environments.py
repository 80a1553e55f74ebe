"""One virtual environment per rival, with pinned versions; a rival that does not install says why."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from simulations.benchmarks.rivals.exchange import Failure, last_words

TORCH = "torch==2.13.0"
RECORD = "rival.json"


@dataclass(frozen=True)
class Rival:
    """A released package, what pip installs for it, and what it pulls in that cannot be loaded without a GPU."""

    name: str
    requirements: tuple[str, ...]
    removed: tuple[str, ...] = ()


RIVALS = {
    rival.name: rival
    for rival in (
        Rival("traker", ("traker==0.3.2", TORCH)),
        Rival("dattri", ("dattri==0.3.0", TORCH)),
        Rival("kronfluence", ("kronfluence==1.0.1", TORCH)),
        Rival("pyinfluence", ("pyinfluence==0.5.0",)),
        Rival("dattri-llm", ("dattri-llm==0.1.0", TORCH, "numpy==2.4.6")),
        # Their wheels are built against CUDA, and transformers fails to import where it finds them broken.
        Rival("bergson", ("bergson==2.5.1", TORCH), removed=("torchvision", "torchaudio")),
    )
}

Environments = dict[str, Path | Failure]


def prepare(folder: Path, rivals: Iterable[Rival]) -> Environments:
    """Interpreters in FOLDER/<name>, installed where they are not; a failed installation is tried again next time."""
    return {rival.name: _prepared(folder.expanduser() / rival.name, rival) for rival in rivals}


def _prepared(folder: Path, rival: Rival) -> Path | Failure:
    python, record = folder / "bin" / "python", folder / RECORD
    wanted = json.dumps([rival.requirements, rival.removed])
    if record.exists() and record.read_text() == wanted and python.exists():
        return python
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    commands = [[sys.executable, "-m", "venv", str(folder)], [*pip, "install", *rival.requirements]]
    if rival.removed:
        commands.append([*pip, "uninstall", "--yes", *rival.removed])
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            return Failure(f"installation failed: {error}")
        if done.returncode != 0:
            return Failure(f"installation failed: {last_words(done.stderr or done.stdout)}")
    record.write_text(wanted)
    return python
