"""Code behind a result: package versions and the commit."""

from __future__ import annotations

import platform
import re
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

PROJECT = "trak-theory"


@cache
def provenance() -> dict[str, Any]:
    """`versions` of Python, this project and its installed dependencies; `commit`; `dirty`: differs from it.

    Of the process that asks, and asked once. Outside a git checkout, or before its first commit, `commit` and `dirty`
    are None.
    """
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain")
    return {"versions": _versions(), "commit": commit, "dirty": None if commit is None else bool(changes)}


def _versions() -> dict[str, str]:
    requirements = [line for line in requires(PROJECT) or [] if 'extra == "dev"' not in line]
    names = {match[0] for line in requirements if (match := re.match(r"[\w.-]+", line))}
    versions = {"python": platform.python_version()}
    for name in sorted({PROJECT, *names}):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue  # an extra that is not installed
    return versions


def _git(*command: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *command], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
