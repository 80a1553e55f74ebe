"""Findings of the studies: claims judged on stored results. A module lists its findings as FINDINGS."""

from __future__ import annotations

from importlib import import_module

from simulations.findings.finding import Finding

MODULES = (
    "simulations.findings.ladder",
    "simulations.findings.laws",
    "simulations.findings.practice",
    "simulations.findings.retraining",
    "simulations.findings.removals",
    "simulations.findings.shallow",
    "simulations.findings.trajectory",
    "simulations.findings.lookahead",
    "simulations.findings.networks",
)


def all_findings() -> list[Finding]:
    """Those of one study together, studies in the order of their first finding."""
    found = [finding for name in MODULES for finding in import_module(name).FINDINGS]
    studies = list(dict.fromkeys(finding.study for finding in found))
    return sorted(found, key=lambda finding: studies.index(finding.study))
