"""Thresholds are registered with a date and a reason, and a change is on record."""

import re
import subprocess
from datetime import date
from pathlib import Path

import pytest

from simulations.findings import all_findings, registry
from simulations.findings.registry import Registered, Threshold, UnregisteredError, claim, parse_threshold, registered

ROOT = Path(__file__).parents[2]


def test_every_claim_is_registered_once_and_nothing_else_is():
    claims = [(finding.study, finding.statement) for finding in all_findings()]
    assert sorted(claims) == sorted(registry.registry())


def test_every_threshold_has_a_reason_that_can_be_read_alone():
    for (study, statement), entry in registry.registry().items():
        assert len(entry.reason) > 20, (study, statement)
        assert entry.on >= date(2026, 11, 29), (study, statement)
        for change in entry.amended:
            assert change.on >= entry.on, (study, statement)
            assert parse_threshold(change.was) != entry.threshold, (study, statement)
            assert len(change.why) > 20, (study, statement)


@pytest.mark.parametrize(
    ("text", "threshold"),
    [
        ("≥ 0.95", Threshold("≥", 0.95, 0.0)),
        ("≤ -0.3", Threshold("≤", -0.3, 0.0)),
        ("= -2 ± 0.05", Threshold("=", -2.0, 0.05)),
    ],
)
def test_a_threshold_is_read(text, threshold):
    assert parse_threshold(text) == threshold


@pytest.mark.parametrize("text", ["0.95", "> 0.95", "= 2", "≥ 2 ± 0.1", "≥ a", "≥ 1 "])
def test_no_threshold_is_refused(text):
    with pytest.raises(UnregisteredError, match="is no threshold"):
        parse_threshold(text)


def test_a_claim_without_a_threshold_cannot_be_made():
    with pytest.raises(UnregisteredError, match=r"ladder: 'new' has no threshold: register one in registered\.toml"):
        claim("ladder", "new", "ours", lambda rows: None)


def test_a_claim_is_held_to_what_is_registered():
    statement = "order of IJ-1 in copies of the data, logistic and Poisson loss"
    found = claim("expansion_orders", statement, "ours", lambda rows: None)
    assert (found.relation, found.predicted, found.tolerance) == ("=", -2.0, 0.05)


def test_the_registry_keeps_what_was_registered_before():
    """Against the last commit that touched it: a threshold that differs from its past says so under `amended`."""
    before = first_registry()
    if before is None:
        pytest.skip("no history here: an archive, or a shallow clone")
    for key, entry in before.items():
        now = registry.registry().get(key)
        if now is not None:
            assert entry.threshold in [now.threshold, *[parse_threshold(change.was) for change in now.amended]], key


def first_registry():
    """Each claim as it was when it first stood in the registry, read from the history."""
    path = "simulations/findings/registered.toml"
    git = ["git", "-C", str(ROOT)]
    log = subprocess.run([*git, "log", "--reverse", "--format=%H", "--", path], capture_output=True, text=True)
    commits = log.stdout.split()
    if log.returncode or not commits:
        return None
    first: dict[tuple[str, str], Registered] = {}
    for commit in commits:
        text = subprocess.run([*git, "show", f"{commit}:{path}"], capture_output=True, text=True).stdout
        first = {**registry.read(text), **first}
    return first


def test_registered_finds_by_study_and_statement():
    (study, statement), entry = next(iter(registry.registry().items()))
    assert registered(study, statement) == entry
    assert re.match(r"[≥≤=]", entry.threshold.relation)
