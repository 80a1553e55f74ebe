"""Thresholds are registered with a date and a reason, and a change is on record."""

import re
import subprocess
from datetime import date
from pathlib import Path

import pytest

from simulations.findings import all_findings, registry
from simulations.findings.registry import (
    Amendment,
    Registered,
    Threshold,
    UnregisteredError,
    claim,
    parse_threshold,
    registered,
)

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
            assert not change.threshold or parse_threshold(change.threshold) != entry.threshold, (study, statement)
            assert change.wording != statement, (study, statement)
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
    """Against every commit that touched it: no claim is taken out, and what has changed says so under `amended`."""
    before = first_registry()
    if before is None:
        pytest.skip("no history here: an archive, or a shallow clone")
    assert not lost(before, registry.registry())


@pytest.mark.parametrize(
    ("now", "found"),
    [
        ("'b' = { on = 2026-11-29, registered = '≥ 0.9', reason = '' }", ["s, a"]),
        ("'a' = { on = 2026-11-29, registered = '≥ 0.8', reason = '' }", ["s, a"]),
        (
            "'b' = { on = 2026-11-29, registered = '≥ 0.8', reason = '', "
            "amended = [{ on = 2026-12-24, wording = 'a', why = '' }] }",
            ["s, a"],
        ),
        (
            "'b' = { on = 2026-11-29, registered = '≥ 0.8', reason = '', amended = [{ on = 2026-12-24, wording = 'a', "
            "why = '' }, { on = 2026-12-25, threshold = '≥ 0.9', why = '' }] }",
            [],
        ),
        ("'a' = { on = 2026-11-29, registered = '≥ 0.9', reason = '' }", []),
    ],
)
def test_a_claim_that_was_taken_out_reworded_or_loosened_in_silence_is_lost(now, found):
    first = registry.read("[s]\n'a' = { on = 2026-11-29, registered = '≥ 0.9', reason = '' }")
    assert lost(first, registry.read(f"[s]\n{now}")) == found


def lost(before, now):
    """Claims as they were registered first that no claim stands for now, or one with another threshold unsaid."""
    heirs = {(study, worded): entry for (study, claimed), entry in now.items() for worded in known_as(claimed, entry)}
    return [", ".join(key) for key, entry in before.items() if entry.threshold not in known_thresholds(heirs.get(key))]


def known_as(statement, entry):
    return [statement, *[change.wording for change in entry.amended if change.wording]]


def known_thresholds(entry):
    if entry is None:
        return []
    return [entry.threshold, *[parse_threshold(change.threshold) for change in entry.amended if change.threshold]]


@pytest.mark.parametrize("what", [{}, {"threshold": "≥ 1", "wording": "a"}])
def test_an_amendment_is_of_one_thing(what):
    with pytest.raises(ValueError, match="one of threshold, wording and measured was changed"):
        Amendment(date(2026, 12, 24), "two networks diverge", **what)


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
        first = {**registry.read(text.replace("was = ", "threshold = ")), **first}  # its key in the first days
    return first


def test_registered_finds_by_study_and_statement():
    (study, statement), entry = next(iter(registry.registry().items()))
    assert registered(study, statement) == entry
    assert re.match(r"[≥≤=]", entry.threshold.relation)
