"""What the studies found: claims judged on stored results. A module lists its findings as FINDINGS."""

from __future__ import annotations

from importlib import import_module

from simulations.findings.finding import Finding

MODULES = ("ladder", "laws", "practice", "shallow", "trajectory")


def all_findings() -> list[Finding]:
    return [finding for name in MODULES for finding in import_module(f"simulations.findings.{name}").FINDINGS]
